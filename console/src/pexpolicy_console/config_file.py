"""The configuration file of the server that the console shows."""

from __future__ import annotations

import tomllib
from contextlib import suppress
from pathlib import Path

from pexpolicy.audit.redaction import Personal, drop, redaction_of
from pexpolicy.cli.for_console import Document, grouped, load
from pexpolicy.config.files import version_of
from pexpolicy.config.settings import ConfigError, Settings

MAX_OTHERS = 20


class ConfigFile:
    """The configuration file, read again when it has changed; with errors, its usable part."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._version = version_of(path)
        self._settings, _ = _usable(path)
        self._personal = _personal_of(self._settings)

    @property
    def settings(self) -> Settings:
        """The settings on the disk; the last usable ones where the file cannot be parsed."""
        version = version_of(self.path)
        if version != self._version:
            self._version = version
            with suppress(ConfigError):
                self._settings, is_whole = _usable(self.path)
                personal = _personal_of(self._settings)
                # An error may leave out [privacy]: what was hidden before stays hidden.
                self._personal = personal if is_whole else personal or self._personal
        return self._settings

    @property
    def personal(self) -> Personal | None:
        """Returns what the audit has for a personal value; ``None`` where it has the value."""
        _ = self.settings
        return self._personal

    def problems_of(self, table: str) -> list[str]:
        """Return the errors in one table on the disk."""
        try:
            load(self.path)
        except ConfigError as error:
            mine = [one for one in error.problems if one.key[:1] == (table,)]
            return [*map(str, grouped(mine, error.path))]
        return []

    def written(self, value: str) -> str | None:
        """Return what the audit has for a personal value; ``None`` where it has nothing."""
        personal = self.personal
        return value if personal is None else personal(value)

    @property
    def audit(self) -> Path | None:
        """The audit file; ``None`` if the audit goes to standard output."""
        settings = self.settings
        return None if settings.audit.path is None else settings.resolve(settings.audit.path)

    @property
    def folder(self) -> Path:
        """The folder of the console's own files."""
        return self.settings.resolve(self.settings.console.folder)

    def others(self) -> list[str]:
        """Return the names of other configurations in the folder, such as one for later."""
        found = sorted(set(self.path.parent.glob("*.toml")) - {self.path})
        return [path.name for path in found if _is_config(path)][:MAX_OTHERS]


def _is_config(path: Path) -> bool:
    try:
        keys = tomllib.loads(path.read_text()).keys()
    except (OSError, ValueError):
        return False
    return not keys.isdisjoint(Document.model_fields)


def _usable(path: Path) -> tuple[Settings, bool]:
    """Return the settings that can be used, and whether they are all of the file."""
    try:
        return load(path), True
    except ConfigError as error:
        if error.salvaged is None:
            raise
        return error.salvaged, False


def _personal_of(settings: Settings) -> Personal | None:
    personal = redaction_of(settings).personal
    # Without its key, nothing can be hashed.
    return drop if personal is None and settings.privacy.personal != "clear" else personal
