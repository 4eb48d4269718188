"""Settings of ``rooms``: rooms in the configuration, in files, and from a source."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pexpolicy import ConfigPath, PluginSettings
from pexpolicy.config.csv_tables import TableFile
from pexpolicy.config.plugin_settings import TimeZone
from pexpolicy.rows import RowSettings


class DerivedPin(PluginSettings):
    """A PIN that is calculated from a secret and a text of the room.

    ``hmac``: the last digits of HMAC-SHA-256 of the text, read as a decimal number; all PINs are
    equally likely. ``sha256``: the first digits of SHA-256 of both, which is ``pex_hash`` of the
    local policy scripts of Infinity, so both calculate the same PIN.
    """

    derive: Literal["hmac", "sha256"]
    """``hmac``, or ``sha256`` where local policy scripts calculate the same PINs."""
    secret_file: ConfigPath
    """A file with the secret in its only line, at least 16 bytes."""
    digits: Annotated[int, Field(ge=4, le=20)] = 6
    """Length of the PIN, 4 to 20."""
    of: Literal["alias", "name", "service_tag"] = "alias"
    """The text: the part before the ``@`` of the room's first alias, or one of its fields."""
    order: Literal["secret-text", "text-secret"] = "secret-text"
    """``sha256`` only: the secret followed by the text, or the text followed by the secret."""

    @model_validator(mode="after")
    def _has_an_order_for_a_hash(self) -> Self:
        if self.derive == "hmac" and "order" in self.model_fields_set:
            raise ValueError('order belongs to derive = "sha256"')
        return self


class Settings(RowSettings):
    """``[plugins.rooms.settings]``. Rows of a source have the columns of the CSV file."""

    default_room: str | None = None
    """Name of the room for each alias that is not listed; the normalized alias replaces
    ``{local_alias}``. At most 250 characters, the alias included. Unset: abstain.
    """

    rooms: dict[str, Any] = {}
    """A table for each alias: any field of any service type, by default of a ``conference``."""

    csv: TableFile | None = None
    """A CSV file with a room in each line; its columns are fields."""

    files: list[TableFile] = []
    """TOML files with a table ``[[rooms]]`` for each room."""

    pins: TableFile | None = None
    """A CSV file with PINs: the columns ``alias``, ``pin`` and ``guest_pin``."""

    pin: DerivedPin | None = None
    """The Host PIN of all rooms that have none of their own."""

    guest_pin: DerivedPin | None = None
    """The Guest PIN of all rooms that allow guests and have none of their own."""

    zone: TimeZone | None = None
    """Time zone of ``valid_from`` and ``valid_until``, such as ``Europe/Oslo``."""

    outside: Literal["reject", "abstain"] = "reject"
    """A call outside of the time of a room: `"reject"` with the reason, or `"abstain"`, so that
    later plugins and Infinity's own rooms are asked.
    """
