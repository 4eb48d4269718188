"""PINs of rooms: from a separate file, or calculated from a secret."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pexpolicy import Alias, ConfigWarning, Key, Problem, Service, read_secret
from pexpolicy.config.csv_tables import Row, TableError, TableRow, read_table
from pexpolicy.config.problems import dotted_key
from pexpolicy.config.secrets import SecretError
from pexpolicy.config.toml_tables import validated
from pexpolicy.text import did_you_mean
from pexpolicy_rooms.settings import DerivedPin, Settings

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
        self._root = settings.root
        self._problems = problems
        self._defaults = {"pin": settings.pin, "guest_pin": settings.guest_pin}
        self._secrets: dict[Path, str | None] = {}
        self._rows: dict[str, Row[PinRow]] = {}
        self._used: set[str] = set()
        if settings.pins is not None:
            self._read(settings.pins)

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
                fault = row.fault(text)
                self._problems.append(Problem(("pins",), str(fault)))
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
            problems.append(Problem(("pins",), str(other.fault(text))))
        for name in PINS:
            written = fields.get(name)
            from_file = None if row is None else getattr(row.values, name)
            if row is not None and written is not None and from_file not in (None, written):
                own = dotted_key((*key, name)) if key[0] == "rooms" else key[-1]
                text = f"its {name} is not used, as the room has its own in {own}: keep one of both"
                warnings.append(ConfigWarning(("pins",), str(row.fault(text))))
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
        secret = self._secret(recipe.secret_file)
        text = aliases[0].user if recipe.of == "alias" else fields.get(recipe.of)
        if secret is None:
            return
        if not isinstance(text, str) or not text:
            yield Problem((*key, name), f"cannot be calculated: the room has no {recipe.of}")
            return
        fields[name] = derived_pin(recipe, secret, text)

    def _secret(self, path: Path) -> str | None:
        if path not in self._secrets:
            try:
                self._secrets[path] = read_secret("secret", None, str(path), Path())
            except SecretError as error:
                self._secrets[path] = None
                self._problems.append(Problem(("pin", "secret_file"), str(error)))
        return self._secrets[path]

    def read_secrets(self) -> None:
        """Read the secrets of the PINs of all rooms now, for rooms that come later."""
        for recipe in self._defaults.values():
            if recipe is not None:
                self._secret(recipe.secret_file)

    def unused(self, rooms: Iterable[tuple[str, Service]]) -> Iterable[Problem]:
        """Yield a problem for each line of the file whose alias belongs to no room.

        ``rooms`` are the aliases of all rooms, with their services.
        """
        unused = [alias for alias in self._rows if alias not in self._used]
        known = [alias for alias, _ in rooms] if unused else []
        for alias in unused:
            row, guess = self._rows[alias], did_you_mean(alias, known)
            yield Problem(("pins",), str(row.fault(f"no room has the alias {alias}{guess}")))


def derived_pin(recipe: DerivedPin, secret: str, text: str) -> str:
    """Return the first digits of the hash of secret and text, as ``pex_hash`` gives them."""
    hashed = f"{secret}{text}" if recipe.order == "secret-text" else f"{text}{secret}"
    digest = hashlib.sha256(hashed.encode()).hexdigest()
    return str(int(digest, 16))[: recipe.digits]
