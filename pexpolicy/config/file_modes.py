"""Warnings about file modes: secrets that others can read, files that others can change."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from pexpolicy.config.csv_header import declared_delimiter
from pexpolicy.config.problems import ConfigWarning, Key
from pexpolicy.config.settings import Settings

_SECRET_FILE = re.compile(r"(?:password|passwd|secret|token|key)_file|client_key")
_KEY = re.compile(r"^\s*(\w+)\s*=", re.MULTILINE)
_TABLES = ("csv", "pins")
"""Keys that name a CSV file, with any suffix."""
_MAX_CHARACTERS = 1_000_000
_MAX_LINES = 100
"""Lines in which the header of a table is searched for."""
_SECRET = re.compile(r"(?:\w+_)?(?:pin|password|passcode|secret|token|api_?key)", re.IGNORECASE)


def mode_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    """Yield warnings about the modes of a configuration file and of the files that it names."""
    if os.name != "posix":
        return
    texts = [
        (place, key, value)
        for place, key, value in _texts(settings)
        if _SECRET.fullmatch(key) or _SECRET_FILE.search(key)
    ]
    secrets = dict(_secret_files(settings, texts))
    if any(_SECRET.fullmatch(key) for _, key, _ in texts):
        yield from _readable((), settings.path)
    tables = dict(_tables_with_secrets(settings))
    for key, path in (secrets | tables).items():
        yield from _readable(key, path)
    yield from _writable((), settings.path)
    yield from _writable((), settings.path.absolute().parent)
    for key, path in (secrets | tables).items():
        yield from _writable(key, path)
    for number, folder in enumerate(settings.plugin_dirs):
        for path in (folder, *sorted(folder.glob("*.py"))):
            yield from _writable(("plugin_dirs", number), path)
    if settings.audit.path is not None:
        file = settings.resolve(settings.audit.path)
        for path in (file, file.absolute().parent):
            yield from _writable(("audit", "path"), path)


def _secret_files(
    settings: Settings, texts: Iterable[tuple[Key, str, str]]
) -> Iterator[tuple[Key, Path]]:
    root = settings.path.parent
    named: list[tuple[Key, str | None]] = [
        (("privacy", "key_file"), settings.privacy.key_file),
        (("admin", "token_file"), settings.admin.token_file),
        (("audit", "sign_key_file"), settings.audit.sign_key_file),
    ]
    if settings.tls is not None:
        named.append((("tls", "key"), settings.tls.key))
        named.append((("tls", "key_password_file"), settings.tls.key_password_file))
    named += [((*place, key), file) for place, key, file in texts if _SECRET_FILE.search(key)]
    files = {key: root / file for key, file in named if file is not None}
    yield from files.items()
    for number, path in enumerate(settings.secret_files):
        if path not in files.values():
            yield ("auth", number), path


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


def _tables_with_secrets(settings: Settings) -> Iterator[tuple[Key, Path]]:
    """Yield the CSV and TOML files of plugins in which a column or a key holds secrets."""
    for place, key, value in _texts(settings):
        path = settings.resolve(value)
        is_table = path.suffix == ".csv" or key in _TABLES
        if not (is_table or path.suffix == ".toml") or not _mode(path):
            continue
        try:
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                head = _header(file) if is_table else file.read(_MAX_CHARACTERS)
        except OSError:
            continue  # an error of the plugin
        names = re.split(r"[;,\t]", head) if is_table else _KEY.findall(head)
        if any(_SECRET.fullmatch("_".join(name.strip('"\r\n').split())) for name in names):
            yield (*place, int(key) if key.isdecimal() else key), path


def _header(file: TextIO) -> str:
    """Return the line with the names of columns, after blank ones and Excel's delimiter."""
    lines = (file.readline(4096) for _ in range(_MAX_LINES))
    return next((x for x in lines if x.strip() and declared_delimiter(x.strip()) is None), "")


def _readable(key: Key, path: Path) -> Iterator[ConfigWarning]:
    mode = _mode(path)
    if mode & stat.S_IROTH or (mode & stat.S_IRGRP and not _is_shared_by_root(path)):
        others = "every user" if mode & stat.S_IROTH else "its group"
        text = f"{path} can be read by {others}: chmod 600 {shlex.quote(str(path))}"
        yield ConfigWarning(key[:1] if key[:1] == ("auth",) else key, text)


def _writable(key: Key, path: Path) -> Iterator[ConfigWarning]:
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
