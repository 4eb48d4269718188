"""Rooms as they are written, in the configuration, in files, and in rows of a source, with PINs."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pydantic

from pexpolicy import (
    Alias,
    ConfigWarning,
    DecisionError,
    Key,
    Problem,
    Service,
    read_secret,
)
from pexpolicy.config.csv_tables import Row, TableError, TableRow, read_table
from pexpolicy.config.problems import dotted_key
from pexpolicy.config.secrets import SecretError
from pexpolicy.config.toml_tables import read_tables, validated
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES, service_class
from pexpolicy.models.alias import why_never_called
from pexpolicy.models.contract import Extras, contract_of
from pexpolicy.models.errors import ValidationIssue
from pexpolicy.rows import RowValues, report_left_out
from pexpolicy.text import brief, did_you_mean
from pexpolicy_rooms.settings import DerivedPin, Settings
from pexpolicy_rooms.table import RoomTable, TimedService, validity_of

PINS = ("pin", "guest_pin")


class PinRow(TableRow):
    """The PINs of one room in a CSV file; the room is named by any of its aliases."""

    alias: str
    pin: str | None = None
    guest_pin: str | None = None


class Pins:
    """The PINs of the rooms, by the order in which they apply: the room's own, those of the file,
    the calculated ones of all rooms.
    """

    def __init__(self, settings: Settings, problems: list[Problem]) -> None:
        self._root = settings.config_folder
        self._problems = problems
        self.warnings: list[ConfigWarning] = []
        self._defaults = {"pin": settings.pin, "guest_pin": settings.guest_pin}
        self._secrets: dict[DerivedPin, bytes | None] = {}
        self._rows: dict[str, Row[PinRow]] = {}
        self._used: set[str] = set()
        if settings.pins is not None:
            self._read(settings.pins)
        for name, recipe in self._defaults.items():
            if recipe is not None:
                self._secret((name,), recipe)

    def _read(self, path: Path) -> None:
        try:
            rows = list(read_table(path, PinRow))
        except TableError as error:
            self._problems += error.under(("pins",))
            return
        for row in rows:
            alias = str(Alias(row.values.alias))
            if alias in self._rows:
                earlier = self._rows[alias].line
                text = f"the alias {alias} has PINs in line {earlier} already: keep one of the two"
                self._problems.append(Problem(("pins",), row.fault(text)))
            self._rows[alias] = row

    def fill(
        self,
        key: Key,
        aliases: list[Alias],
        fields: dict[str, Any],
        problems: list[Problem],
        warnings: list[ConfigWarning],
    ) -> None:
        """Set the PINs of a room that are not written as text; append its problems and warnings."""
        rows = [self._rows[alias] for alias in dict.fromkeys(aliases) if alias in self._rows]
        row = rows[0] if rows else None
        self._used.update(map(str, aliases if rows else ()))
        for other in rows[1:]:
            text = f"its room has PINs in line {rows[0].line} already: keep one of the two"
            problems.append(Problem(("pins",), other.fault(text)))
        for name in PINS:
            written = fields.get(name)
            from_file = None if row is None else getattr(row.values, name)
            if row is not None and written is not None and from_file not in (None, written):
                own = dotted_key((*key, name)) if key[0] == "rooms" else key[-1]
                text = f"its {name} is not used, as the room has its own in {own}: keep one of both"
                warnings.append(ConfigWarning(("pins",), row.fault(text)))
            if written is None:
                default = self._defaults[name]
                if from_file is not None:
                    fields[name] = from_file
                elif default is not None and (name == "pin" or fields.get("allow_guests") is True):
                    problems += self._derive(key, name, default, aliases, fields)
            elif isinstance(written, dict):
                del fields[name]
                problems += self._derive_own(key, name, written, aliases, fields)

    def _derive_own(
        self, key: Key, name: str, written: Any, aliases: list[Alias], fields: dict[str, Any]
    ) -> Iterable[Problem]:
        recipe, problems = validated(written, DerivedPin, {"root": self._root})
        if recipe is not None:
            yield from self._derive(key, name, recipe, aliases, fields)
        for found in problems:
            yield Problem((*key, name, *found.key), found.text)

    def _derive(
        self, key: Key, name: str, recipe: DerivedPin, aliases: list[Alias], fields: dict[str, Any]
    ) -> Iterable[Problem]:
        secret = self._secret((*key, name), recipe)
        text = aliases[0].user if recipe.of == "alias" else fields.get(recipe.of)
        if secret is None:
            return
        if not isinstance(text, str) or not text:
            yield Problem((*key, name), f"cannot be calculated: the room has no {recipe.of}")
            return
        fields[name] = derived_pin(recipe, secret, text)

    def _secret(self, key: Key, recipe: DerivedPin) -> bytes | None:
        """Return the secret of a recipe; what is wrong with it is reported at its first use."""
        if recipe in self._secrets:
            return self._secrets[recipe]
        file, secret, is_old = (*key, "secret_file"), None, recipe.derive == "sha256"
        try:
            secret = read_secret("secret", None, str(recipe.secret_file), Path()).encode()
        except SecretError as error:
            self._problems.append(Problem(file, str(error)))
        if secret is not None and len(secret) < MIN_SECRET:
            text = (
                f"its {len(secret)} bytes can be guessed by a host who knows some PINs: write at "
            )
            text += f"least {MIN_SECRET}, as by openssl rand -hex {MIN_SECRET}"
            if is_old:
                self.warnings.append(ConfigWarning(file, text))
            else:
                self._problems.append(Problem(file, text))
        if is_old:
            text = f"{likely_pins(recipe.digits):,} of {10**recipe.digits:,} PINs open 15 % of the "
            text += 'rooms; write "hmac" unless local policy scripts use pex_hash'
            self.warnings.append(ConfigWarning((*key, "derive"), text))
        self._secrets[recipe] = secret
        return secret

    def unused(self, rooms: Iterable[tuple[str, Service]]) -> Iterable[Problem]:
        """Yield a problem for each line of the file whose alias belongs to no room.

        ``rooms`` are the aliases of all rooms, with their services.
        """
        unused = [alias for alias in self._rows if alias not in self._used]
        known = [alias for alias, _ in rooms] if unused else []
        for alias in unused:
            row, guess = self._rows[alias], did_you_mean(alias, known)
            yield Problem(("pins",), row.fault(f"no room has the alias {alias}{guess}"))


MIN_SECRET = 16
"""Minimum length of a secret, in bytes."""


def derived_pin(recipe: DerivedPin, secret: bytes, text: str) -> str:
    """Return the PIN of a text: of equally likely ones, or the first digits of ``pex_hash``."""
    data = text.encode()
    if recipe.derive == "hmac":
        number = int.from_bytes(hmac.digest(secret, data, "sha256"))
        return f"{number % 10**recipe.digits:0{recipe.digits}}"
    hashed = secret + data if recipe.order == "secret-text" else data + secret
    return str(int.from_bytes(hashlib.sha256(hashed).digest()))[: recipe.digits]


def likely_pins(digits: int) -> int:
    """Return how many PINs 15 % of the rooms have by ``sha256``, whatever the number of digits.

    They are the beginnings of the numbers from 10^77 to 2^256, the largest hash: 1000 to 1157.
    """
    first: int = 10 ** (digits - 1)
    return int(str(2**256)[:digits]) - first + 1


VALIDITY = ("valid_from", "valid_until")
_FIRST = ("name", "pin", "guest_pin", "allow_guests", "service_type", *VALIDITY)
"""Columns that messages name before the others."""


_SEPARATOR = re.compile(
    r"\A\+\d{1,3}(?: \(?\d+\)?)+\Z|[^ ]*[,|][^ ]*|(?<![^ ])[/&+-](?![^ ])|;[^ ;=]*(?![^ ;])"
)
"""What separates aliases other than a blank, and a telephone number with blanks."""


class WrittenRoom(NamedTuple):
    """A room before it is checked: its key, its aliases, and its other keys."""

    key: Key
    aliases: list[str]
    fields: dict[str, Any]


def written_rooms(
    settings: Settings, extras: Extras, problems: list[Problem]
) -> Iterator[WrittenRoom]:
    """Yield the rooms of the configuration, then those of the files; collect ``problems``."""
    for alias, table in settings.rooms.items():
        key = ("rooms", alias)
        if not isinstance(table, dict):
            problems.append(
                Problem(key, "expected a table of fields, such as name and service_tag")
            )
            continue
        if table and all(isinstance(value, dict) for value in table.values()):
            whole = f"{alias}.{next(iter(table))}"
            text = f'has no fields, only a table; an alias with a dot needs quotes, as in "{whole}"'
            problems.append(Problem(key, text))
            continue
        fields = dict(table)
        more = _aliases(key, fields.pop("aliases", []), problems)
        yield WrittenRoom(key, [alias, *more], fields)
    for number, path in enumerate(settings.files):
        if path in settings.files[:number]:
            problems.append(Problem(("files", number), f"{path.name} is in the list already"))
            continue
        yield from _file_rooms(("files", number), path, problems)
    if settings.csv is not None:
        yield from _csv_rooms(settings.csv, extras, problems)


def _aliases(key: Key, written: Any, problems: list[Problem]) -> list[str]:
    if isinstance(written, str):
        return split_aliases(key, written, problems)
    if isinstance(written, list) and all(isinstance(alias, str) for alias in written):
        return written
    text = 'takes a list of aliases: write aliases = ["meet@example.com", "meet"]'
    problems.append(Problem((*key, "aliases"), text))
    return []


def split_aliases(key: Key, text: str, problems: list[Problem]) -> list[str]:
    """Return the aliases in a text; those that are not separated by blanks are a problem."""
    aliases = text.split()
    if (found := _SEPARATOR.search(" ".join(aliases))) is not None:
        text = f"write blanks between aliases, and none in one: {found[0]!r} is no alias"
        problems.append(Problem((*key, "aliases"), text))
    return aliases


def _file_rooms(key: Key, path: Path, problems: list[Problem]) -> Iterator[WrittenRoom]:
    try:
        tables, faults = read_tables(path, "rooms")
    except TableError as error:
        problems += error.under(key)
        return
    problems += TableError(*faults).under(key)
    for table in tables:
        place = (*key, f"{table.file} line {table.line}")
        fields = dict(table.values)
        aliases = _aliases(place, fields.pop("aliases", []), problems)
        if not aliases:
            text = "is missing: a room needs an alias; write aliases = [...]"
            problems.append(Problem((*place, "aliases"), text))
        yield WrittenRoom(place, aliases, fields)


def _csv_rooms(path: Path, extras: Extras, problems: list[Problem]) -> Iterator[WrittenRoom]:
    fields: dict[str, Any] = dict.fromkeys(columns(extras), (str | None, None))
    model = pydantic.create_model("RoomRow", __base__=TableRow, aliases=(str, ...), **fields)
    try:
        for row in read_table(path, model):
            cells = row.values.model_dump(exclude_none=True)
            place = ("csv", f"{row.file} line {row.line}")
            aliases = split_aliases(place, cells.pop("aliases"), problems)
            yield WrittenRoom(place, aliases, field_values(cells))
    except TableError as error:
        problems += error.under(("csv",))


_VALUES = {name: RowValues(kind) for name, kind in SERVICE_TYPES.items()}


def field_values(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a room, where cells are text, as values of their types.

    Those of an unknown service type stay as they are.
    """
    times = {name: cells[name] for name in VALIDITY if name in cells}
    kind = cells.get("service_type", "conference")
    values = _VALUES.get(kind) if isinstance(kind, str) else None
    return dict(cells) if values is None else {**values.of(cells), **times}


def columns(extras: Extras) -> list[str]:
    """Return the names of all fields of all service types, and of the times of a room."""
    names = {name for kind in SERVICE_TYPES.values() for name in contract_of(kind).hints}
    return [*_FIRST, *sorted({*names, *extras.fields} - {*_FIRST})]


class RoomTableBuilder:
    """Builds one table of rooms, and collects warnings and the keys of the rooms."""

    def __init__(
        self, extras: Extras, pins: Pins, zone: ZoneInfo | None, clock: Callable[[], float]
    ) -> None:
        self.table = RoomTable()
        self.warnings: list[ConfigWarning] = []
        self.keys: dict[str, Key] = {}
        """The keys of aliases that are not written as ``[rooms.ALIAS]``."""
        self.spelled: dict[str, str] = {}
        """Aliases as they are written, where that is not their normal form."""
        self._extras = extras
        self._pins = pins
        self._zone = zone
        self._clock = clock
        self._named: dict[str, str] = {}

    def add(self, room: WrittenRoom) -> list[Problem]:
        """Add a room, unless it has a problem; return its problems."""
        key, fields = room.key, room.fields
        aliases = [Alias(text) for text in dict.fromkeys(room.aliases)]
        problems: list[Problem] = []
        for text, alias in zip(dict.fromkeys(room.aliases), aliases, strict=True):
            if not alias.user:
                where = key if text == key[-1] else (*key, "aliases")
                problem = 'is not an alias; write one such as "meet@example.com"'
                problems.append(Problem(where, problem))
        try:
            model = service_class(fields.get("service_type", "conference"), self._extras)
        except DecisionError as error:
            return [*problems, Problem((*key, "service_type"), error.refusal.rule)]
        if aliases:
            validity = validity_of(key, fields, self._zone, problems)
            self._pins.fill(key, aliases, fields, problems, self.warnings)
            service = self._service(key, model, fields, problems)
            if service is not None and not problems:
                timed = TimedService(service, validity)
                problems += self._list(key, aliases, timed)
                self._warn(key, aliases[0].raw, fields, timed)
                for alias in aliases:
                    if why := why_never_called(alias):
                        text = f"{alias.raw!r} {why}, so no call has it: write it as it is dialed"
                        self.warnings.append(ConfigWarning((*key, "aliases"), text))
        return problems

    def _service(
        self, key: Key, kind: type[Service], fields: dict[str, Any], problems: list[Problem]
    ) -> Service | None:
        given = {**fields, "service_tag": fields.get("service_tag", "")}
        if contract_of(kind).constants:
            given.pop("service_type", None)
        if "reason" in given:
            # It is an argument of each decision, and nothing that Infinity is sent.
            del given["reason"]
            problems.append(Problem((*key, "reason"), "is not a field of a service"))
        for name in [n for n, value in given.items() if isinstance(value, date | time)]:
            del given[name]
            guess = did_you_mean(name, VALIDITY)
            problems.append(Problem((*key, name), f"there is no such time of a room{guess}"))
        try:
            return kind.from_result(given, extras=self._extras, strict=True)
        except DecisionError as error:
            refusals = kind.find_issues(given, self._extras) or [error.refusal]
            problems += [Problem((*key, *one.key), _text(key, one)) for one in refusals]
            return None

    def _list(self, key: Key, aliases: Sequence[Alias], room: TimedService) -> Iterable[Problem]:
        """Add a room under its aliases, and note its key where the alias does not show it."""
        for alias in aliases:
            if not self.table.add(alias, room):
                first = self.keys.get(str(alias)) or ("rooms", self.spelled.get(alias, str(alias)))
                where = dotted_key(first) if first[0] == "rooms" else first[-1]
                yield Problem(key, f"there is a room with the alias {alias} already, in {where}")
            elif key[0] != "rooms":
                self.keys[str(alias)] = key
            elif alias != key[-1]:
                self.spelled[str(alias)] = str(key[-1])

    def _warn(self, key: Key, alias: str, fields: dict[str, Any], room: TimedService) -> None:
        if room.validity.ends <= self._clock():
            text = "is in the past: the room does not exist"
            self.warnings.append(ConfigWarning((*key, "valid_until"), text))
        self.warnings += [ConfigWarning(key, warning) for warning in room.service.warnings]
        if not fields.get("breakout"):
            self.warnings += self._of_name(key, alias, fields["name"], room.service)

    def _of_name(
        self, key: Key, alias: str, name: str, service: Service
    ) -> Iterable[ConfigWarning]:
        """Warn of two rooms with one name and other settings; aliases of one room are fine."""
        other = self._named.setdefault(name, alias)
        if other is alias or (room := self.table.find(Alias(other))) is None:
            return
        first = room.service
        if first != service and first.set_fields() != service.set_fields():
            text = (
                f"{other} has the same name and other settings, and Infinity knows a service "
                "by its name: give each a name of its own, or both the same settings"
            )
            yield ConfigWarning((*key, "name"), text)


def _text(key: Key, refusal: ValidationIssue) -> str:
    """Return the text of a problem; for a line of a file with the value, if it is no secret."""
    text = refusal.rule
    if text.startswith("there is no field") and ";" not in text:
        return text + did_you_mean(refusal.field, ["aliases", *VALIDITY])
    is_scalar = isinstance(refusal.value, str | int | float)
    if key[0] != "rooms" and refusal.shown and is_scalar and text.startswith("must be"):
        return f"{brief(refusal.value)} {text}"
    return text


def rooms_of(rows: list[dict[str, Any]], builder: RoomTableBuilder, extras: Extras) -> RoomTable:
    """Return the table of the rooms in rows; those with a problem are left out and logged.

    Columns that no room has are ignored. Raises ``ValueError`` if no room is right.
    """
    known = frozenset(columns(extras))
    problems: list[str] = []
    for number, row in enumerate(rows, 1):
        fields = {
            name: value
            for name, value in row.items()
            if name in known and value is not None and value != ""
        }
        aliases = row.get("aliases") or row.get("alias") or []
        if isinstance(aliases, str):
            split: list[Problem] = []
            aliases = split_aliases((f"row {number}",), aliases, split)
            problems += map(str, split)
        if not (isinstance(aliases, list) and aliases and all(isinstance(a, str) for a in aliases)):
            text = "they are text: write CAST(... AS text)" if aliases else "a room needs an alias"
            problems.append(f"row {number}: aliases: {text}")
        elif any(not isinstance(fields.get(name, ""), str) for name in PINS):
            # A table would name a file of this machine.
            problems.append(f"row {number}: a PIN is text")
        else:
            room = WrittenRoom((f"row {number}",), aliases, field_values(fields))
            problems += map(str, builder.add(room))
    report_left_out("rooms", problems, is_empty=not len(builder.table))
    return builder.table
