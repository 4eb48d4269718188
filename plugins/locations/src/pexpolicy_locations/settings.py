"""Settings of ``locations``: one entry for each subnet, in TOML or as a line of a CSV file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pexpolicy import PluginSettings
from pexpolicy.config.csv_tables import TableFile, TableRow

LocationName = Annotated[str, Field(min_length=1, max_length=250)]
"""Name of a system location, spelled as in Infinity."""
Protocol = Literal["api", "webrtc", "sip", "rtmp", "h323", "teams", "mssip"]
Source = Literal["remote_address", "ms_subnet", "proxy_node_address"]


class Entry(TableRow):
    """Media location of one subnet, optionally for some calls only."""

    subnet: str
    """``10.0.0.0/8``, ``2001:db8::/32`` or a single address."""

    location: LocationName

    overflow_locations: tuple[LocationName, ...] | None = None
    """Tried in order when the location is full; unset: those that ``overflow`` lists for it."""

    protocols: frozenset[Protocol] = frozenset()
    """For calls of these protocols only; empty: of any."""

    node_locations: frozenset[LocationName] = frozenset()
    """For calls to nodes in these system locations only; empty: in any."""


class Settings(PluginSettings):
    """``[plugins.locations.settings]``."""

    default: LocationName | None = None
    """Location of all other addresses; unset: abstain."""

    addresses: list[Source] = Field(default=["remote_address"], min_length=1)
    """Sources of an address, in this order; the first address in a subnet decides."""

    subnets: list[Entry] = Field(default_factory=list)

    csv: TableFile | None = None
    """A file with further entries, relative to the configuration file."""

    overflow: dict[LocationName, list[LocationName]] = Field(default_factory=dict)
    """Overflow locations by location."""
