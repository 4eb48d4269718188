"""Plugin class of ``rooms``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from typing_extensions import override

from pexpolicy import (
    Alias,
    Conference,
    ConfigWarning,
    DataUnavailableError,
    Key,
    Plugin,
    Problem,
    Reject,
    Service,
    ServiceConfigurationRequest,
    SettingsError,
    get_logger,
    wall_clock,
)
from pexpolicy.matching import live_values
from pexpolicy.rows import RowSnapshot
from pexpolicy_rooms.room_files import Pins, RoomTableBuilder, rooms_of, written_rooms
from pexpolicy_rooms.settings import Settings
from pexpolicy_rooms.table import RoomEntry, RoomTable, TimedService, changed_rooms

DEFAULT_TAG = "default-room"
MAX_NAME = 250
_PLACEHOLDER = "{local_alias}"


class Rooms(Plugin[Settings]):
    """Leads aliases to services that were checked and rendered when the policy was built."""

    def __init__(self, settings: Settings, clock: Callable[[], float] | None = None) -> None:
        # The table holds the rooms; 100,000 written ones would take 50 MB more.
        self.settings = settings.model_copy(update={"rooms": {}})
        self._default = settings.default_room
        self._rejects = settings.outside == "reject"
        self._extras = settings.extras
        self._clock = clock or wall_clock()
        problems: list[Problem] = []
        zone = None if settings.zone is None else ZoneInfo(settings.zone)
        pins = Pins(settings, problems)
        self._zone = zone or UTC
        new_builder = partial(RoomTableBuilder, self._extras, pins, zone, self._clock)
        builder = new_builder()
        for room in written_rooms(settings, self._extras, problems):
            problems += builder.add(room)
        self._table = builder.table
        self._keys, self._spelled = builder.keys, builder.spelled
        in_csv = (key for key in self._keys.values() if key[0] == "csv")
        self._is_without_rows = settings.csv is not None and next(in_csv, None) is None
        self._snapshot = self._of_source(settings, new_builder, problems)
        if self._snapshot is None:
            problems += pins.unused(self._table.rooms())
        problems += _template_problems(settings.default_room)
        self._warnings = [*pins.warnings, *builder.warnings]
        live_values().services.append(self._uses)
        if problems:
            raise SettingsError(problems=problems)

    def _of_source(
        self,
        settings: Settings,
        new_builder: Callable[[], RoomTableBuilder],
        problems: list[Problem],
    ) -> RowSnapshot[RoomTable] | None:
        extras = self._extras
        last: list[RoomTable] = []

        def convert(rows: list[dict[str, Any]]) -> RoomTable:
            table = rooms_of(rows, new_builder(), extras)
            if last and (changes := list(changed_rooms(table, last.pop()))):
                get_logger().info("rooms of the source have changed", changes="; ".join(changes))
            last.append(table)
            return table

        try:
            return settings.snapshot(convert, "rooms", [["aliases", "alias"], ["name"]])
        except SettingsError as error:
            problems += error.problems
            return None

    @override
    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Fetch the rooms of the source, and keep them up to date."""
        return self._snapshot or nullcontext()

    @override
    async def service_configuration(
        self, request: ServiceConfigurationRequest
    ) -> Service | Reject | None:
        """Return the room of the dialed alias; abstain for probes and breakout rooms."""
        alias = request.local_alias
        direction = request.call_direction
        if not alias.user or direction == "non_dial" or request.breakout_uuid is not None:
            return None
        room = self._table.find(alias)
        if room is None and self._snapshot is not None:
            room = self._snapshot.value.find(alias)
            request.annotate(source_age=round(self._snapshot.age, 1))
        if room is not None:
            return self._if_valid(room, request) if room.validity.written else room.service
        if self._default is None or direction == "dial_out":
            return None
        return self._default_room(alias, self._default)

    @property
    def can_reject(self) -> bool:
        """True if a room may be outside of its time."""
        timed = (room.validity.written for _, room in self._table.entries())
        return self._rejects and (self._snapshot is not None or any(timed))

    def room_entries(self) -> Iterator[RoomEntry]:
        """Yield each alias that leads to a room, those of the source included once it is open."""
        yield from self._table.described()
        if self._snapshot is not None:
            with suppress(DataUnavailableError):
                yield from self._snapshot.value.described()

    def _if_valid(
        self, room: TimedService, request: ServiceConfigurationRequest
    ) -> Service | Reject | None:
        now = self._clock()
        if room.validity.holds(now):
            return room.service
        if request.notes is not None:
            name, validity = room.service.name, room.validity
            local = f"{datetime.fromtimestamp(now, self._zone):%Y-%m-%d %H:%M %Z}"
            request.notes.append(f"the room {name} is valid {validity.written}; it is {local}")
        if not self._rejects:
            return None
        if now >= room.validity.ends:
            return Reject(reason="ended")
        opens = datetime.fromtimestamp(room.validity.begins, UTC)
        return Reject(reason=f"opens at {opens:%Y-%m-%dT%H:%M:%SZ}")

    def _uses(self, name: str) -> bool:
        tables = [self._table]
        if self._snapshot is not None:
            with suppress(DataUnavailableError):
                tables.append(self._snapshot.value)
        return any(table.uses(name) for table in tables)

    def _default_room(self, alias: Alias, template: str) -> Service | None:
        if self._table.is_ambiguous(alias):
            return None
        if self._snapshot is not None and self._snapshot.value.is_ambiguous(alias):
            return None
        name = template.replace(_PLACEHOLDER, alias)
        if len(name) > MAX_NAME:
            return None
        return Conference(name=name, service_tag=DEFAULT_TAG, reason="no room has this alias")

    @override
    def static_decisions(self) -> Iterable[tuple[Key, Service]]:
        """Return each room with its key; the decisions were made when the policy was built."""
        # Kept no longer: the keys are text of the configuration, and pin its memory.
        keys, self._keys = self._keys, {}
        spelled, self._spelled = self._spelled, {}
        for alias, service in self._table.rooms():
            yield keys.get(alias) or ("rooms", spelled.get(alias, alias)), service

    @override
    def coverage_items(self) -> Iterable[tuple[str, str, Service]]:
        """Return each room, those of the source included."""
        for table in (self._table, *(() if self._snapshot is None else (self._snapshot.value,))):
            for alias, service in table.rooms():
                yield "room", alias, service

    @override
    def config_warnings(self) -> Iterable[ConfigWarning]:
        """Warn of ambiguous rooms, rooms without a PIN, and fields that Infinity may reject."""
        if self._default is not None:
            room = "a room of its own" if _PLACEHOLDER in self._default else "one room"
            yield ConfigWarning(
                ("default_room",),
                f"every alias that has no room leads to {room} without a PIN: anybody who can "
                "dial in can use it, and neither later plugins nor Infinity's database are asked",
            )
        if self._is_without_rows:
            yield ConfigWarning(("csv",), "has no room below its header: is it the right file?")
        if not len(self._table) and self._snapshot is None and self._default is None:
            yield ConfigWarning((), "has no room and no default_room: it never answers")
        for user, hosts in self._table.ambiguities():
            shared = ", ".join(f"{user}@{host}" for host in hosts)
            yield ConfigWarning(
                ("rooms",), f"a call to the bare name {user} meets none of {shared}: add {user}"
            )
        yield from self._warnings

    @override
    def changes_since(self, previous: Rooms) -> Iterable[str]:
        """Name the rooms that were added, removed and changed."""
        return changed_rooms(self._table, previous._table)

    @override
    def status(self) -> Mapping[str, object]:
        """Return the number of aliases that lead to a room."""
        status: dict[str, object] = {"aliases": len(self._table)}
        if self._snapshot is not None:
            with suppress(DataUnavailableError):
                status["aliases_of_source"] = len(self._snapshot.value)
        return status


def _template_problems(template: str | None) -> Iterable[Problem]:
    key = ("default_room",)
    if template is None:
        return
    rest = template.replace(_PLACEHOLDER, "")
    if "{" in rest or "}" in rest:
        yield Problem(key, f"only {_PLACEHOLDER} is filled in; write the name without other braces")
    elif not template.strip():
        yield Problem(
            key, "is empty; leave it out if aliases without a room are not yours to answer"
        )
    elif len(template.replace(_PLACEHOLDER, "a")) > MAX_NAME:
        yield Problem(
            key, f"is too long: with the alias in it, a name has at most {MAX_NAME} characters"
        )
