"""Plugin class of ``locations``; entries are rendered when the policy is built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from typing_extensions import override

from pexpolicy import (
    ConfigWarning,
    Key,
    MediaLocation,
    MediaLocationRequest,
    Plugin,
    Problem,
    SettingsError,
)
from pexpolicy.files import named_changes
from pexpolicy.rows import listed_rows
from pexpolicy_locations.table import Draft, Entry, GeoLocations, LocationTable, Settings


class Locations(Plugin[Settings]):
    """Answers with the location of the longest prefix that contains an address of the call."""

    def __init__(self, settings: Settings) -> None:
        """Read the entries of the settings and of the CSV file.

        Raises ``SettingsError`` with all that is wrong with them.
        """
        draft = Draft(settings.overflow)
        written = listed_rows("subnets", settings.subnets, settings.csv, Entry, draft.problems)
        for key, entry in written:
            draft.add(key, entry)
        self._default: MediaLocation | None = None
        if settings.default is not None and (
            decision := draft.rendered(("default",), settings.default, settings.default_overflow)
        ):
            self._default = decision.with_reason("no listed subnet holds an address of the call")
        if settings.default_overflow is not None and settings.default is None:
            text = "belongs to default, which is missing"
            draft.problems.append(Problem(("default_overflow",), text))
        self._geoip: GeoLocations | None = None
        if settings.geoip is not None:
            self._geoip = GeoLocations(settings.geoip, draft)
        if draft.problems:
            raise SettingsError(problems=draft.problems)
        subnets = draft.subnets()
        self._warnings = list(draft.warnings(subnets))
        self._prepared = draft.prepared()
        self._table = LocationTable(settings.addresses, subnets)
        self._hits: Counter[bytes] = Counter()

    @override
    async def media_location(self, request: MediaLocationRequest) -> MediaLocation | None:
        """Return the location of the subnet, the country or the default, else abstain."""
        decision = self._table.find(request)
        if decision is None and self._geoip is not None:
            decision = self._geoip.find(request, self._table.readers)
        decision = decision or self._default
        if decision is not None:
            self._hits[decision.result] += 1
        return decision

    @override
    def static_decisions(self) -> Iterable[tuple[Key, MediaLocation]]:
        """Return each decision with the key of its entry."""
        return self._prepared

    @override
    def coverage_items(self) -> Iterable[tuple[str, str, str]]:
        """Return each subnet, and the default location."""
        for name, reason in self._table.reasons():
            yield "subnet", name, reason
        if self._default is not None:
            yield "default", "default", str(self._default.reason)

    @override
    def config_warnings(self) -> Iterable[ConfigWarning]:
        """Warn of nested subnets, unused overflow, and a table that never answers."""
        if not self._prepared:
            yield ConfigWarning((), "lists no subnet and no default: it never answers")
        yield from self._warnings

    @override
    def changes_since(self, previous: Locations) -> Iterable[str]:
        """Name the subnets that were added, removed and changed."""
        return named_changes(previous._table.choices(), self._table.choices())

    @override
    def status(self) -> Mapping[str, object]:
        """Return the number of subnets, and of calls for each location."""
        hits: Counter[str] = Counter()
        for _, decision in self._prepared:
            hits[decision.location] += self._hits[decision.result]
        return {"subnets": len(self._table), "hits": dict(hits)}
