"""Warnings about files: secrets that others can read, files that they can change, the audit's."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pexpolicy.config.files import denied_right, odd_path
from pexpolicy.config.problems import ConfigWarning, Key
from pexpolicy.config.settings import Settings

_SECRET_FILE = re.compile(r"(?:password|passwd|secret|token|key)_file|client_key")
_SECRET = re.compile(r"(?:\w+[_ ])?(?:pin|password|passcode|secret|token|api_?key)", re.IGNORECASE)
_TABLES = ("csv", "pins")
"""Keys that name a CSV file, with any suffix."""
_MAX_LINES = 10_000
"""Lines of a file in which the name of a secret is searched for."""


def mode_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    """Yield warnings about the modes of a configuration file and of the files that it names."""
    if os.name != "posix":
        return
    named = _secret_files(settings)
    texts = list(_texts(settings))
    if any(_SECRET.fullmatch(key) for _, key, _ in texts):
        named[()] = settings.path
    for place, name, value in texts:
        path = settings.resolve(value)
        if _SECRET_FILE.search(name) or _holds_secrets(path, name):
            named[(*place, int(name) if name.isdecimal() else name)] = path
    for key, path in named.items():
        mode = _mode(path)
        if mode & stat.S_IROTH or (mode & stat.S_IRGRP and not _is_shared_by_root(path)):
            others = "every user" if mode & stat.S_IROTH else "its group"
            text = f"{path} can be read by {others}: chmod 600 {shlex.quote(str(path))}"
            yield ConfigWarning(key[:1] if key[:1] == ("auth",) else key, text)
    yield from _writable((), settings.path, settings.path.absolute().parent)
    for key, path in named.items():
        yield from _writable(key, *(() if path == settings.path else (path,)))
    for number, folder in enumerate(settings.plugin_dirs):
        yield from _writable(("plugin_dirs", number), folder, *sorted(folder.glob("*.py")))
    if settings.audit.path is not None:
        file = settings.resolve(settings.audit.path)
        yield from _writable(("audit", "path"), file, file.absolute().parent)


def audit_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    """Yield a warning for each place of the audit that cannot be used on this machine."""
    for key, written in (("path", settings.audit.path), ("spool", settings.audit.spool)):
        if written is None:
            continue
        path = settings.resolve(written)
        folder = path if key == "spool" else path.parent
        text = odd_path(written) or denied_right(
            folder / "spool" if key == "spool" else path, os.W_OK
        )
        if not text and key == "path" and path.is_dir():
            text = f"{path} is a folder; name a file, as in {written.rstrip('/')}/audit.jsonl"
        if not text and not folder.is_dir():
            text = f"there is no folder {folder}; the server does not make it: mkdir -p {folder}"
        if text:
            yield ConfigWarning(("audit", key), text)


def _secret_files(settings: Settings) -> dict[Key, Path]:
    """Return the files of the secrets of the server by their keys."""
    tables: dict[str, Any] = {
        name: getattr(settings, name) for name in ("privacy", "admin", "audit", "tls")
    }
    named: dict[Key, Path] = {
        (table, key): settings.path.parent / file
        for table, values in tables.items()
        for key, file in values or ()
        if file is not None and (key.endswith("_file") or (table, key) == ("tls", "key"))
    }
    others = [path for path in settings.secret_files if path not in named.values()]
    return named | {("auth", number): path for number, path in enumerate(others)}


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
    """Return whether a column of a CSV file, or a key of a TOML file, holds secrets."""
    is_table = path.suffix == ".csv" or key in _TABLES
    if not (is_table or path.suffix == ".toml") or not _mode(path):
        return False
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for line in islice(file, _MAX_LINES):
                names = re.split(r"[;,\t]", line) if is_table else [line.partition("=")[0]]
                if any(_SECRET.fullmatch(name.strip().strip('"')) for name in names):
                    return True
                if is_table and len(names) > 1 and line[:4].lower() != "sep=":
                    return False  # it is the header
    except OSError:
        pass  # an error of the plugin
    return False


def _writable(key: Key, *paths: Path) -> Iterator[ConfigWarning]:
    for path in paths:
        mode = _mode(path)
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            text = f"{path} can be changed by every user: chmod o-w {shlex.quote(str(path))}"
            yield ConfigWarning(key[:1] if key[:1] == ("auth",) else key, text)


def _is_shared_by_root(path: Path) -> bool:
    """Return whether root lets a group read a file, as for a key of mode 0640."""
    status = path.stat()
    return status.st_uid == 0 and status.st_gid != 0


def _mode(path: Path) -> int:
    """Return the mode of a file or folder; 0 for anything else and for a missing file."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return 0
    return mode if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else 0
