"""Settings of ``registrations``: devices in TOML, as lines of a CSV file, or from a source."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self, TypeVar, runtime_checkable

from pydantic import Field, SecretStr, model_validator

from pexpolicy import ConfigPath, PluginSettings, Source
from pexpolicy.config.csv_tables import TableFile, TableRow

Text = Annotated[str, Field(min_length=1, max_length=250)]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=250)]


T = TypeVar("T")
V_co = TypeVar("V_co", covariant=True)


class Snapshot(AbstractAsyncContextManager[object], Protocol[V_co]):
    """Rows of a source, converted, and fetched again at an interval."""

    @property
    def value(self) -> V_co:
        """What was made of the rows; raises ``DataUnavailableError`` if there are none yet."""

    @property
    def age(self) -> float:
        """Seconds since the rows were fetched."""


@runtime_checkable
class RowSource(Protocol):
    """A source whose rows can be taken together, such as those of ``pexpolicy-sources``."""

    def snapshot(
        self,
        query: str,
        convert: Callable[[list[dict[str, Any]]], T],
        *,
        every: float,
        file: Path | None = None,
        first: Literal["required", "stale"] = "required",
        name: str = "rows",
    ) -> Snapshot[T]:
        """Return the rows of a query; raises ``ValueError`` for a query with an error."""
        ...


class Device(TableRow):
    """A device that may register."""

    alias: Text

    username: Text | None = None

    password: Secret | None = None
    """Unset: Infinity decides on the credentials."""

    protocols: frozenset[Literal["webrtc", "sip", "h323"]] = frozenset()
    """Protocols that the device may use; empty: any."""

    sso: bool = False
    """Whether the device may use single sign-on."""

    @model_validator(mode="after")
    def _has_both_or_neither(self) -> Self:
        if (self.username is None) != (self.password is None):
            missing = "username" if self.username is None else "password"
            msg = f"{missing} is missing: a device needs both or neither"
            raise ValueError(msg)
        return self


class Settings(PluginSettings):
    """``[plugins.registrations.settings]``."""

    csv: TableFile | None = None
    """A file with a device in each line."""

    devices: list[Device] = Field(default_factory=list)

    source: Source[RowSource] | None = None
    """NAME of a table ``[sources.NAME]`` with further devices."""

    query: str | None = None
    """What the source is asked: its rows have the columns of the CSV file."""

    every: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between two queries."""

    cache: ConfigPath | None = None
    """A file that keeps the rows for a start without the source."""

    otherwise: Literal["reject", "abstain"] = "reject"
    """Reject all other aliases, or leave them to the next plugin."""

    burst: Annotated[int, Field(ge=0)] = 20
    """Unknown aliases from one address in a minute after which answers to it are delayed; 0: never
    delay.
    """

    delay: Annotated[float, Field(gt=0, le=3)] = 0.5
    """Seconds; must be shorter than the timeout of the plugin."""

    @model_validator(mode="after")
    def _has_a_query_for_its_source(self) -> Self:
        if (self.source is None) != (self.query is None):
            missing = "source" if self.source is None else "query"
            msg = f"{missing} is missing: source and query go together"
            raise ValueError(msg)
        if self.cache is not None and self.source is None:
            msg = "cache belongs to a source"
            raise ValueError(msg)
        return self

    _timeout: float = 1.0

    @property
    def timeout(self) -> float:
        """Return the timeout of the plugin, in seconds."""
        return self._timeout

    def model_post_init(self, context: object, /) -> None:
        """Store the timeout of the plugin."""
        if isinstance(context, dict):
            self._timeout = context.get("timeout", 1.0)
