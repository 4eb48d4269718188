"""Settings of ``directory``: entries in TOML, as lines of a CSV file, or from a source."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pexpolicy.config.csv_tables import TableFile, TableRow
from pexpolicy.rows import RowSettings

MAX = 250
"""Characters of a text of Infinity."""
Text = Annotated[str, Field(max_length=MAX)]
Name = Annotated[str, Field(min_length=1, max_length=MAX)]


class Entry(TableRow):
    """One entry of the phone book."""

    alias: Name
    """The alias to call."""

    name: Name
    """The text that is shown and searched, such as the name of a person."""

    username: Text = ""
    """User name, searched as well."""

    keywords: Text = ""
    """Further words that find the entry, such as a department or a nickname."""

    groups: tuple[Name, ...] = ()
    """Groups that see the entry; none: everybody."""


class Settings(RowSettings):
    """``[plugins.directory.settings]``."""

    csv: TableFile | None = None
    """A file with an entry in each line."""

    entries: list[Entry] = Field(default_factory=list)
    """Entries in the configuration, with the columns of the file."""

    groups: dict[Name, list[Name]] = Field(default_factory=dict)
    """For each group the aliases, or domains such as ``@example.com``, that belong to it."""

    ignore_local: bool = False
    """Show no entries of Infinity's own."""

    limit: Annotated[int, Field(ge=1, le=100)] = 10
    """Maximum number of entries, 1 to 100, if Infinity gives none."""
