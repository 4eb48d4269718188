"""The configuration file of the server that the console shows."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pexpolicy.config.loader import load
from pexpolicy.config.schema.document import Document
from pexpolicy.config.settings import ConfigError, Settings

MAX_OTHERS = 20
MAX_OTHER_BYTES = 1 << 20


class ConfigFile:
    """The configuration file, read again when it has changed.

    A file with errors counts with its usable part, as for ``pexpolicy status``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._settings = _usable(path)
        self._version = _version(path)

    @property
    def settings(self) -> Settings:
        """The settings on the disk; the last usable ones where the file cannot be parsed."""
        version = _version(self.path)
        if version != self._version:
            self._version = version
            try:
                self._settings = _usable(self.path)
            except ConfigError:
                return self._settings
        return self._settings

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
        """Return the names of other configurations in the folder, such as one that is not in force
        yet.

        TOML files without a table of a configuration are those of plugins.
        """
        found = sorted(path for path in self.path.parent.glob("*.toml") if path.is_file())
        return [path.name for path in found if path.name != self.path.name and _is_config(path)][
            :MAX_OTHERS
        ]


def _is_config(path: Path) -> bool:
    try:
        if path.stat().st_size > MAX_OTHER_BYTES:
            return False
        keys = tomllib.loads(path.read_text()).keys()
    except (OSError, ValueError):
        return False
    return not keys.isdisjoint(Document.model_fields)


def _usable(path: Path) -> Settings:
    try:
        return load(path)
    except ConfigError as error:
        if error.salvaged is None:
            raise
        return error.salvaged


def _version(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino
