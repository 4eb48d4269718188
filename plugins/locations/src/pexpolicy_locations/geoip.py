"""Media locations by the country of an address, from a database file."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pexpolicy import MediaLocation, MediaLocationRequest, Problem
from pexpolicy.config.files import why_unusable
from pexpolicy.files import track_file
from pexpolicy_locations.settings import GeoIP
from pexpolicy_locations.table import Draft, Reader

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
        database = maxminddb.open_database(path, maxminddb.MODE_MEMORY)
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
