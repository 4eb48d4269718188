"""Plugin class of ``rooms``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

from typing_extensions import override

from pexpolicy import (
    SERVICE_TYPES,
    Alias,
    Conference,
    ConfigWarning,
    DecisionError,
    Key,
    Plugin,
    Problem,
    Service,
    ServiceConfigurationRequest,
    SettingsError,
    service_class,
    wall_clock,
)
from pexpolicy_rooms.changes import changed_rooms
from pexpolicy_rooms.pins import PINS, Pins
from pexpolicy_rooms.room_files import WrittenRoom, written_rooms
from pexpolicy_rooms.settings import Settings
from pexpolicy_rooms.table import RoomTable, TimedService
from pexpolicy_rooms.validity import ALWAYS, Validity, moment, validity_of

DEFAULT_TAG = "default-room"
MAX_NAME = 250
_OTHERS_READ = 0o004
_PLACEHOLDER = "{local_alias}"


class Rooms(Plugin[Settings]):
    """Leads aliases to services that were checked and rendered when the policy was built."""

    def __init__(self, settings: Settings, clock: Callable[[], float] | None = None) -> None:
        self._table = RoomTable()
        self._default = settings.default_room
        self._extras = settings.extras
        self._clock = clock or wall_clock()
        self._files = [path for path in (settings.csv, settings.pins) if path is not None]
        self._files += settings.files
        self._holds_pins = False
        """Whether the CSV file of the rooms contains PINs."""
        self._warnings: list[ConfigWarning] = []
        self._named: dict[str, str] = {}
        self._keys: dict[str, Key] = {}
        self._spelled: dict[str, str] = {}
        problems: list[Problem] = []
        zone = None if settings.zone is None else ZoneInfo(settings.zone)
        pins = Pins(settings, problems)
        for room in written_rooms(settings, self._extras, problems):
            problems += self._add(room, pins, zone)
        problems += [*pins.unused(), *_template_problems(settings.default_room)]
        self._named.clear()
        self._warnings += _mode_warnings(settings, csv_has_pins=self._holds_pins)
        if problems:
            raise SettingsError(problems=problems)

    def _add(self, room: WrittenRoom, pins: Pins, zone: ZoneInfo | None) -> Iterable[Problem]:
        key, fields = room.key, room.fields
        aliases = [Alias(text) for text in dict.fromkeys(room.aliases)]
        found: list[Problem] = []
        for text, alias in zip(dict.fromkeys(room.aliases), aliases, strict=True):
            if not alias.user:
                where = key if text == key[-1] else (*key, "aliases")
                yield Problem(where, 'is not an alias; write one such as "meet@example.com"')
        if (model := service_class(kind := _kind(fields), self._extras)) is None:
            text = f"{kind!r} is not one of {', '.join(_KINDS)}"
            yield Problem((*key, "service_type"), text)
        elif aliases:
            self._holds_pins |= key[0] == "csv" and not fields.keys().isdisjoint(PINS)
            validity = validity_of(key, fields, zone, found)
            pins.fill(key, aliases, fields)
            found += self._add_service(key, aliases, model, fields, validity)
        yield from found

    def _add_service(
        self,
        key: Key,
        aliases: Sequence[Alias],
        kind: type[Service],
        fields: dict[str, Any],
        validity: Validity,
    ) -> Iterable[Problem]:
        given = {**fields, "service_tag": fields.get("service_tag", "")}
        if kind.constants.get("service_type") is not None:
            given.pop("service_type", None)
        if "reason" in given:
            # It is an argument of each decision, and nothing that Infinity is sent.
            del given["reason"]
            yield Problem((*key, "reason"), "is not a field of a service")
        try:
            service = kind.from_result(given, extras=self._extras, strict=True)
        except DecisionError as error:
            for refusal in kind.find_issues(given, self._extras) or [error.refusal]:
                yield Problem((*key, *refusal.key), refusal.text)
            return
        room = service if validity is ALWAYS else TimedService(service, validity)
        yield from self._list(key, aliases, room)
        self._warnings += [ConfigWarning(key, warning) for warning in service.warnings]
        if validity.ends <= self._clock():
            self._warnings.append(
                ConfigWarning((*key, "valid_until"), "is in the past: the room does not exist")
            )
        if not given.get("breakout"):
            self._warnings += self._of_name(key, aliases[0].raw, given["name"], service)

    def _list(
        self, key: Key, aliases: Sequence[Alias], room: Service | TimedService
    ) -> Iterable[Problem]:
        """Add a room under its aliases, and note its key where the alias does not show it."""
        for alias in aliases:
            if not self._table.add(alias, room):
                yield Problem(key, f"there is a room with the alias {alias} already")
            elif key[0] != "rooms":
                self._keys[str(alias)] = key
            elif alias != key[-1]:
                self._spelled[str(alias)] = str(key[-1])

    def _of_name(
        self, key: Key, alias: str, name: str, service: Service
    ) -> Iterable[ConfigWarning]:
        """Warn of two rooms with one name and other settings; aliases of one room are fine."""
        other = self._named.setdefault(name, alias)
        if other is alias or (first := self._table.find(Alias(other))) is None:
            return
        first = first.service if isinstance(first, TimedService) else first
        if first != service and first.set_fields() != service.set_fields():
            text = (
                f"{other} has the same name and other settings, and Infinity knows a service "
                "by its name: give each a name of its own, or both the same settings"
            )
            yield ConfigWarning((*key, "name"), text)

    @override
    async def service_configuration(self, request: ServiceConfigurationRequest) -> Service | None:
        """Return the room of the dialed alias; abstain for probes and breakout rooms."""
        alias = request.local_alias
        direction = request.call_direction
        if not alias.user or direction == "non_dial" or request.breakout_uuid is not None:
            return None
        room = self._table.find(alias)
        if type(room) is TimedService:
            return self._if_valid(room, request)
        if room is not None or self._default is None or direction == "dial_out":
            return cast("Service | None", room)
        return self._default_room(alias, self._default)

    def _if_valid(self, room: TimedService, request: ServiceConfigurationRequest) -> Service | None:
        now = self._clock()
        if room.validity.holds(now):
            return room.service
        if request.notes is not None:
            name, validity = room.service.name, room.validity
            request.notes.append(f"the room {name} is valid {validity}; it is {moment(now)}")
        return None

    def _default_room(self, alias: Alias, template: str) -> Service | None:
        if self._table.is_ambiguous(alias):
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
    def config_warnings(self) -> Iterable[ConfigWarning]:
        """Warn of ambiguous rooms, rooms without a PIN, and fields that Infinity may reject."""
        if self._default is not None:
            room = "a room of its own" if _PLACEHOLDER in self._default else "one room"
            yield ConfigWarning(
                ("default_room",),
                f"every alias that has no room leads to {room} without a PIN: anybody who can "
                "dial in can use it, and rooms of Infinity's own database are hidden",
            )
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
    def tracked_files(self) -> Iterable[Path]:
        """Return the files with rooms and PINs."""
        return self._files

    @override
    def status(self) -> Mapping[str, object]:
        """Return the number of aliases that lead to a room."""
        return {"aliases": len(self._table)}


# A list: what stands in a TOML file may be no key of a dictionary.
_KINDS = list(SERVICE_TYPES)


def _kind(fields: dict[str, Any]) -> Any:
    return fields.get("service_type", "conference")


def _mode_warnings(settings: Settings, *, csv_has_pins: bool) -> Iterable[ConfigWarning]:
    for key, path in (("csv", settings.csv if csv_has_pins else None), ("pins", settings.pins)):
        if path is not None and path.exists() and path.stat().st_mode & _OTHERS_READ:
            text = f"every user of this machine may read the PINs in {path}: chmod o= {path}"
            yield ConfigWarning((key,), text)


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
