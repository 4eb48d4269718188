"""Warnings about files: secrets that others can read, files that they can change, the audit's."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pexpolicy.config.files import odd_path
from pexpolicy.config.problems import ConfigWarning, Key
from pexpolicy.config.settings import Settings

_SECRET_FILE = re.compile(r"(?:password|passwd|secret|token|key)_file|client_key")
_NAME = r"(?:\w+[_ ])?(?:pin|password|passcode|secret|token|api_?key)"
_SECRET = re.compile(_NAME, re.IGNORECASE)
_HOLDS_SECRETS = re.compile(
    rf'^[ \t]*"?{_NAME}"?[ \t]*=|(?:^|[;,\t])[ ]*"?{_NAME}"?[ ]*(?:$|[;,\t\r])'.encode(),
    re.IGNORECASE | re.MULTILINE,
)
"""Finds a column of a CSV file, or a key of a TOML file, that holds secrets."""
_SEARCHED = 1_000_000
"""Bytes at the beginning of a file in which a secret is searched for."""
_TABLES = ("csv", "pins")
"""Keys that name a CSV file, with any suffix."""


def mode_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    """Yield warnings about the modes of a configuration file and of the files that it names."""
    named = _secret_files(settings)
    for place, name, value in _texts(settings):
        path = settings.resolve(value)
        if _SECRET.fullmatch(name):
            named[settings.path] = ()
        if _SECRET_FILE.search(name) or _holds_secrets(path, name):
            named[path] = (*place, int(name) if name.isdecimal() else name)
    for path, key in named.items():
        if not (mode := _mode(path)):
            continue
        owner = path.stat()
        # Root may let a group read a file, as for a key of mode 0640.
        is_shared = owner.st_uid == 0 and owner.st_gid != 0
        if mode & stat.S_IROTH or (mode & stat.S_IRGRP and not is_shared):
            others = "every user" if mode & stat.S_IROTH else "its group"
            text = f"{path} can be read by {others}: chmod 600 {shlex.quote(str(path))}"
            yield ConfigWarning(key, text)
    yield from _writable(settings, named)


def _writable(settings: Settings, named: Mapping[Path, Key]) -> Iterator[ConfigWarning]:
    """Yield a warning for each file or folder that every user can change."""
    checked: list[tuple[Key, Path]] = [((), settings.path), ((), settings.path.absolute().parent)]
    checked += [(key, path) for path, key in named.items() if key]
    for number, folder in enumerate(settings.plugin_dirs):
        checked += [
            (("plugin_dirs", number), path) for path in (folder, *sorted(folder.glob("*.py")))
        ]
    if settings.audit.path is not None:
        file = settings.resolve(settings.audit.path)
        checked += [(("audit", "path"), path) for path in (file, file.absolute().parent)]
    for key, path in checked:
        mode = _mode(path)
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            text = f"{path} can be changed by every user: chmod o-w {shlex.quote(str(path))}"
            yield ConfigWarning(key, text)


def audit_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    """Yield a warning for each place of the audit that cannot be used on this machine."""
    for key, written in (("path", settings.audit.path), ("spool", settings.audit.spool)):
        if written is None:
            continue
        file = settings.resolve(written) / ("" if key == "path" else "spool")
        folder, text = file.parent, odd_path(written)
        if text:
            pass
        elif file.is_dir():
            text = f"{file} is a folder; name a file, as in {written.rstrip('/')}/audit.jsonl"
        elif not folder.is_dir():
            text = f"there is no folder {folder} that this user may enter: mkdir -p {folder}"
        elif not os.access(file if file.exists() else folder, os.W_OK):
            text = f"the user with the id {os.geteuid()} may not write to {file}"
        if text:
            yield ConfigWarning(("audit", key), text)


def _secret_files(settings: Settings) -> dict[Path, Key]:
    """Return the files of the secrets of the server, with their keys."""
    named: dict[Path, Key] = {
        settings.resolve(file): (table, key)
        for table in ("privacy", "admin", "audit", "tls")
        for key, file in getattr(settings, table) or ()
        if file is not None and (key.endswith("_file") or (table, key) == ("tls", "key"))
    }
    return dict.fromkeys(settings.secret_files, ("auth",)) | named


def _texts(settings: Settings) -> Iterator[tuple[Key, str, str]]:
    """Yield each text in the settings of the plugins, as place, key and value."""
    pending: list[tuple[Key, Any]] = [
        (("plugins", name, "settings"), table.settings) for name, table in settings.plugins.items()
    ]
    while pending:
        place, table = pending.pop()
        for key, value in table.items() if isinstance(table, Mapping) else enumerate(table):
            if isinstance(value, str):
                yield place, str(key), value
            elif isinstance(value, Mapping | list):
                pending.append(((*place, key), value))


def _holds_secrets(path: Path, key: str) -> bool:
    """Return whether a file is a table that holds secrets."""
    if not (path.suffix in (".csv", ".toml") or key in _TABLES) or not _mode(path):
        return False
    try:
        with path.open("rb") as file:
            return _HOLDS_SECRETS.search(file.read(_SEARCHED)) is not None
    except OSError:
        return False  # an error of the plugin


def _mode(path: Path) -> int:
    """Return the mode of a file or folder; 0 for anything else and for a missing file."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return 0
    return mode if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else 0
