"""Settings of ``registrations``: devices in TOML, as lines of a CSV file, or from a source."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from pexpolicy.config.csv_tables import TableFile, TableRow
from pexpolicy.rows import RowSettings

Text = Annotated[str, Field(min_length=1, max_length=250)]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=250)]


class Device(TableRow):
    """A device that may register."""

    alias: Text
    """The alias of the device, compared in its normal form."""

    username: Text | None = None
    """User name that the device must present; set together with the password."""

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


class Settings(RowSettings):
    """``[plugins.registrations.settings]``. Rows of a source have the columns of the CSV file."""

    csv: TableFile | None = None
    """A file with a device in each line."""

    devices: list[Device] = Field(default_factory=list)
    """Devices in the configuration, with the columns of the file."""

    otherwise: Literal["reject", "abstain"] = "reject"
    """Reject all other aliases, or leave them to the next plugin."""

    burst: Annotated[int, Field(ge=0)] = 20
    """Unknown aliases from one address in a minute after which answers to it are delayed; 0: never
    delay.
    """

    delay: Annotated[float, Field(gt=0, le=3)] = 0.5
    """Seconds; must be shorter than the timeout of the plugin."""

    _timeout: float = 1.0

    @property
    def timeout(self) -> float:
        """Return the timeout of the plugin, in seconds."""
        return self._timeout

    def model_post_init(self, context: object, /) -> None:
        """Store the timeout of the plugin."""
        if isinstance(context, dict):
            self._timeout = context.get("timeout", 1.0)
