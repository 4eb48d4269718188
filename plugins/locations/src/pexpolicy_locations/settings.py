"""Settings of ``locations``: one entry for each subnet, in TOML or as a line of a CSV file."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from pexpolicy import ConfigPath, PluginSettings
from pexpolicy.config.csv_tables import TableFile, TableRow
from pexpolicy.matching import ValueOf

LocationName = Annotated[str, Field(min_length=1, max_length=250)]
"""Name of a system location, spelled as in Infinity."""
Protocol = Literal["api", "webrtc", "sip", "rtmp", "h323", "teams", "mssip"]
AddressName = Literal["remote_address", "ms_subnet", "proxy_node_address"]
Country = Annotated[str, Field(pattern="^[A-Z]{2}$")]
"""Code of a country or continent in two letters, such as ``NO`` or ``EU``."""


def _or_value_of(written: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(written, dict):
        return ValueOf.model_validate(written)
    return written if isinstance(written, ValueOf) else validate(written)


Address = Annotated[AddressName, WrapValidator(_or_value_of)]
"""Where an address is found: a name, or a ``ValueOf``."""


class Entry(TableRow):
    """Media location of one subnet, optionally for some calls only."""

    subnet: str
    """``10.0.0.0/8``, ``2001:db8::/32`` or a single address; host bits are ignored."""

    location: LocationName
    """Name of a system location, spelled as in Infinity."""

    overflow_locations: tuple[LocationName, ...] | None = None
    """Tried in order when the location is full; unset: those that ``overflow`` lists for it."""

    protocols: frozenset[Protocol] = frozenset()
    """For calls of these protocols only; empty: of any."""

    node_locations: frozenset[LocationName] = frozenset()
    """For calls to nodes in these system locations only; empty: in any."""

    description: Annotated[str, Field(max_length=250)] = ""
    """Shown in the reason."""


class GeoIP(PluginSettings):
    """``geoip``: the location of addresses that are in no subnet, by country or continent."""

    database: ConfigPath
    """A file in the format MMDB with countries, such as ``GeoLite2-Country.mmdb``."""

    countries: dict[Country, LocationName] = Field(default_factory=dict)
    """Locations by ISO 3166 code."""

    continents: dict[Country, LocationName] = Field(default_factory=dict)
    """Locations of other countries by ``AF``, ``AN``, ``AS``, ``EU``, ``NA``, ``OC``, ``SA``."""

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if not self.countries and not self.continents:
            msg = "write countries, continents or both"
            raise ValueError(msg)
        return self


class Settings(PluginSettings):
    """``[plugins.locations.settings]``."""

    default: LocationName | None = None
    """Location of all other addresses; unset: abstain."""

    default_overflow: list[LocationName] | None = None
    """Overflow locations of all other addresses; unset: those that ``overflow`` lists."""

    addresses: list[Address] = Field(default=["remote_address"], min_length=1)
    """Sources of an address, in this order; the first address in a subnet decides.

    A table ``{ value_of = "params.Call-ID", regex = '.*@(.*)' }`` takes it from another value.
    """

    subnets: list[Entry] = Field(default_factory=list)
    """The location of each subnet."""

    csv: TableFile | None = None
    """A file with further entries, relative to the configuration file."""

    overflow: dict[LocationName, list[LocationName]] = Field(default_factory=dict)
    """Overflow locations by location."""

    geoip: GeoIP | None = None
    """Locations by country; needs ``pexpolicy-locations[geoip]``."""
