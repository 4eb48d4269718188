"""Location table: its settings, look-up of a decision by subnet or country, and its builder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pexpolicy import (
    ConfigPath,
    ConfigWarning,
    DecisionError,
    Key,
    MediaLocation,
    MediaLocationRequest,
    PluginSettings,
    Problem,
)
from pexpolicy.config.csv_tables import TableFile, TableRow
from pexpolicy.config.files import why_unusable
from pexpolicy.config.problems import dotted_key
from pexpolicy.files import read_file, track_file
from pexpolicy.matching import OR_VALUE_OF, ValueOf, compile_value_of, subject, why_never_equal
from pexpolicy.models.subnets import Match, SubnetError, Subnets, read_subnet

LocationName = Annotated[str, Field(min_length=1, max_length=250)]
"""Name of a system location, spelled as in Infinity."""
Protocol = Literal["api", "webrtc", "sip", "rtmp", "h323", "teams", "mssip"]
AddressName = Literal["remote_address", "ms_subnet", "proxy_node_address"]
Country = Annotated[str, Field(pattern="^[A-Z]{2}$")]
"""Code of a country or continent in two letters, such as ``NO`` or ``EU``."""


Address = Annotated[AddressName, OR_VALUE_OF]
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

    countries: dict[Country, LocationName] = {}
    """Locations by ISO 3166 code."""

    continents: dict[Country, LocationName] = {}
    """Locations of other countries by ``AF``, ``AN``, ``AS``, ``EU``, ``NA``, ``OC``, ``SA``."""

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if not self.countries and not self.continents:
            raise ValueError("write countries, continents or both")
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

    subnets: list[Entry] = []
    """The location of each subnet."""

    csv: TableFile | None = None
    """A file with further entries, relative to the configuration file."""

    overflow: dict[LocationName, list[LocationName]] = {}
    """Overflow locations by location."""

    geoip: GeoIP | None = None
    """Locations by country; needs ``pexpolicy-locations[geoip]``."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision and the calls that it is for; subnets share equal choices."""

    protocols: frozenset[str]
    node_locations: frozenset[str]
    decision: MediaLocation
    description: str = ""

    @property
    def suffix(self) -> str:
        """Return the end of a reason: the description, and the calls that it is for."""
        protocols, nodes = sorted(self.protocols), sorted(self.node_locations)
        text = f" ({self.description})" if self.description else ""
        text += f", for {' and '.join(protocols)}" if protocols else ""
        return text + (f", at {' and '.join(nodes)}" if nodes else "")

    @property
    def rank(self) -> tuple[bool, bool]:
        """Return the sort key of the choices of one subnet: narrower ones first, and last, with
        two true values, one that is for all calls.
        """
        return not self.node_locations, not self.protocols

    def meets(self, request: MediaLocationRequest) -> bool:
        """Return whether it is for this call."""
        return (not self.protocols or request.protocol in self.protocols) and (
            not self.node_locations or request.location in self.node_locations
        )

    def rivals(self, other: Choice) -> bool:
        """Return whether another one of the same subnet is as narrow and a call may meet both:
        nothing says which of them decides.
        """
        return self.rank == other.rank and all(
            not mine or mine & theirs
            for mine, theirs in (
                (self.protocols, other.protocols),
                (self.node_locations, other.node_locations),
            )
        )


Reader = Callable[[MediaLocationRequest], Iterable[str | None]]
Choices = tuple[Choice, ...]
"""The choices of one subnet, narrow ones first."""


class LocationTable:
    """Finds the decision for a call.

    Subnets differ in their names only, so that a large table takes little memory: the reason is
    made for the call, and rendered decisions are shared.
    """

    def __init__(
        self, addresses: Sequence[AddressName | ValueOf], subnets: Subnets[Choices]
    ) -> None:
        self._subnets = subnets
        self.readers = tuple(map(_reader, addresses))
        """The name of each source of an address, and what reads it."""
        self._around: Mapping[str, Match[Choices]] = {
            inner.subnet: outer
            for inner, outer in subnets.overlaps()
            if not all(inner.value[-1].rank)
        }
        """What to look up when no choice of a subnet is for the call."""

    def __len__(self) -> int:
        return len(self._subnets)

    def reasons(self) -> Iterable[tuple[str, str]]:
        """Yield each subnet, with the calls that it is for, and each reason that names it."""
        for match in self._subnets:
            for choice in match.value:
                for source, _ in self.readers:
                    name = f"{match.subnet}{choice.suffix}"
                    yield name, _reason(source, match, choice)

    def choices(self) -> dict[str, Choices]:
        """Return the choices by subnet."""
        return {match.subnet: match.value for match in self._subnets}

    def find(self, request: MediaLocationRequest) -> MediaLocation | None:
        """Return the decision of the longest prefix with an entry for this call, or ``None``."""
        for source, addresses in self.readers:
            for address in addresses(request):
                found = self._subnets.find(address)
                while found is not None:
                    for choice in found.value:
                        if choice.meets(request):
                            return choice.decision.with_reason(_reason(source, found, choice))
                    found = self._around.get(found.subnet)
        return None


def _reason(source: str, match: Match[Choices], choice: Choice) -> str:
    return f"{source} is in {match.subnet}{choice.suffix}"


def _reader(address: AddressName | ValueOf) -> tuple[str, Reader]:
    if isinstance(address, str):
        return address, _READERS[address]
    return address.value_of, compile_value_of(address).read


_READERS: Mapping[AddressName, Reader] = {
    "remote_address": lambda request: (request.remote_address,),
    "ms_subnet": lambda request: request.ms_subnet,
    "proxy_node_address": lambda request: (request.proxy_node_address,),
}


_LOCATION = subject("location")


class Draft:
    """Builder of a location table: collects entries, problems, subnets and warnings."""

    def __init__(self, overflow: Mapping[str, Sequence[str]]) -> None:
        self._overflow = overflow
        self._choices: dict[IPv4Network | IPv6Network, Choices] = {}
        self._keys: dict[str, tuple[tuple[Choice, Key], ...]] = {}
        self._rendered: dict[tuple[str, tuple[str, ...]], tuple[Key, MediaLocation]] = {}
        self._shared: dict[Choices, Choices] = {}
        self._warnings: list[ConfigWarning] = []
        self.problems: list[Problem] = []

    def add(self, key: Key, entry: Entry) -> None:
        """Add one entry with its key."""
        decision = self.rendered(key, entry.location, entry.overflow_locations)
        if decision is None:
            return
        network = self._network(key, entry.subnet)
        if network is None:
            return
        for name in entry.node_locations:
            if why := why_never_equal(_LOCATION, name):
                self._warnings.append(ConfigWarning((*key, "node_locations"), f"{name!r} {why}"))
        choice = Choice(entry.protocols, entry.node_locations, decision, entry.description)
        before = self._choices.get(network, ())
        keys = self._keys.get(str(network), ())
        earlier = next((where for other, where in keys if choice.rivals(other)), None)
        if earlier is not None:
            text = f"{network} is in {_place(earlier)} already, for the same calls"
            self.problems.append(Problem((*key, "subnet"), text))
            return
        choices = tuple(sorted((*before, choice), key=lambda known: known.rank))
        self._choices[network] = self._shared.setdefault(choices, choices)
        self._keys[str(network)] = (*keys, (choice, key))

    def _network(self, key: Key, written: str) -> IPv4Network | IPv6Network | None:
        """Return a network without host bits; ``None`` for a problem."""
        try:
            network = read_subnet(written, strict=False)
        except SubnetError as error:
            self.problems.append(Problem((*key, "subnet"), str(error)))
            return None
        try:
            read_subnet(written)
        except SubnetError:
            text = "has host bits set, which are ignored: write its network"
            self._warnings.append(ConfigWarning((*key, "subnet"), text))
        return network

    def rendered(
        self, key: Key, location: str, overflow: Sequence[str] | None = None
    ) -> MediaLocation | None:
        """Return the decision for a location, rendered once; ``None`` if it is invalid."""
        then = tuple(self._overflow.get(location, ()) if overflow is None else overflow)
        if (known := self._rendered.get((location, then))) is not None:
            return known[1]
        fields: dict[str, Any] = {"overflow_locations": list(then)} if then else {}
        try:
            decision = MediaLocation(location=location, **fields)
        except DecisionError as error:
            self.problems.append(Problem((*key, error.refusal.field), error.refusal.rule))
            return None
        self._rendered[location, then] = (key, decision)
        return decision

    def prepared(self) -> list[tuple[Key, MediaLocation]]:
        """Return each decision once, with its first key."""
        return list(self._rendered.values())

    def subnets(self) -> Subnets[Choices]:
        """Return the subnets, each with its choices."""
        subnets: Subnets[Choices] = Subnets()
        for network, choices in self._choices.items():
            subnets.add(network, choices)
        return subnets

    def warnings(self, subnets: Subnets[Choices]) -> Iterator[ConfigWarning]:
        """Yield warnings about valid entries."""
        yield from self._warnings
        for inner, outer in subnets.overlaps():
            if inner.value == outer.value and not outer.subnet.endswith("/0"):
                text = "leads to the same as the subnet that it lies in: it is needless"
                yield ConfigWarning((*self._keys[inner.subnet][0][1], "subnet"), text)
        spelled: dict[str, str] = {}
        for (location, _), (key, _) in self._rendered.items():
            first = spelled.setdefault("".join(location.split()).casefold(), location)
            if location != first:
                text = f"{location!r} is nearly {first!r}: write both as in Infinity"
                yield ConfigWarning((*key, "location"), text)
        for location in self._overflow.keys() - {location for location, _ in self._rendered}:
            text = "no subnet leads to this location, and it is not the default"
            yield ConfigWarning(("overflow", location), text)


def _place(key: Key) -> str:
    """Return the place of an entry: a line of the file, or its key in the settings."""
    return str(key[1]) if key[0] == "csv" else dotted_key(key)


KEPT_ADDRESSES = 10_000
"""Number of addresses whose location is kept in memory, those that were used last."""
MAX_ADDRESS = 45
"""Characters of the longest address: callers choose some of the text, and it is kept."""


class GeoLocations:
    """Locations by country and continent; the database is read when the policy is built.

    It adds its problems to those of the ``draft``.
    """

    def __init__(self, settings: GeoIP, draft: Draft) -> None:
        self._countries = _rendered(draft, "countries", settings.countries)
        self._continents = _rendered(draft, "continents", settings.continents)
        self._database = _open(settings.database, draft.problems)
        self._find = lru_cache(KEPT_ADDRESSES)(self._of_address)

    def find(
        self, request: MediaLocationRequest, readers: Iterable[tuple[str, Reader]]
    ) -> MediaLocation | None:
        """Return the location of the first address whose country has one."""
        for name, addresses in readers:
            for address in addresses(request):
                bare = address.partition("%")[0] if address else ""
                found = self._find(bare) if 0 < len(bare) <= MAX_ADDRESS else None
                if found is not None:
                    decision, place = found
                    return decision.with_reason(f"{name} is in {place}")
        return None

    def _of_address(self, address: str) -> tuple[MediaLocation, str] | None:
        try:
            parsed = ip_address(address)
            record = self._database.get(getattr(parsed, "ipv4_mapped", None) or parsed)
        except ValueError:
            return None  # no address, or one of IPv6 in a database of IPv4
        if not isinstance(record, dict):
            return None
        country = _code(record, "country", "iso_code")
        continent = _code(record, "continent", "code")
        if decision := self._countries.get(country):
            return decision, f"country {country}"
        if decision := self._continents.get(continent):
            return decision, f"continent {continent}"
        return None


def _code(record: dict[str, Any], name: str, key: str) -> str:
    part = record.get(name)
    code = part.get(key) if isinstance(part, dict) else ""
    return code if isinstance(code, str) else ""


def _rendered(draft: Draft, name: str, locations: dict[str, str]) -> dict[str, MediaLocation]:
    found = {
        code: draft.rendered(("geoip", name, code), location)
        for code, location in locations.items()
    }
    return {code: decision for code, decision in found.items() if decision is not None}


def _open(path: Path, problems: list[Problem]) -> Any:
    """Read and return a database, or add the problem."""
    key = ("geoip", "database")
    try:
        import maxminddb  # noqa: PLC0415 - for configurations with geoip only
    except ModuleNotFoundError:
        text = "needs a package: pip install 'pexpolicy-locations[geoip]'"
        problems.append(Problem(("geoip",), text))
        return None
    track_file(path)
    try:
        # In memory: a file that is overwritten while it is mapped would end the server.
        database = maxminddb.open_database(BytesIO(read_file(path)), maxminddb.MODE_FD)
    except OSError as error:
        problems.append(Problem(key, f"{path} cannot be read: {why_unusable(path, error)}"))
        return None
    except (maxminddb.InvalidDatabaseError, ValueError) as error:
        problems.append(Problem(key, f"{path} is no database in the format MMDB: {error}"))
        return None
    kind = database.metadata().database_type
    if not any(word in kind for word in ("Country", "City", "Enterprise")):
        problems.append(Problem(key, f"{path} has no countries: it is of the type {kind!r}"))
    return database
