"""Modes of files: secrets that others can read, and code and settings that others can change."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pexpolicy.config.problems import ConfigWarning, Key
from pexpolicy.config.settings import Settings

_SECRET_FILE = re.compile(r"(?:password|passwd|secret|token|key)_file|client_key")
_SECRET = re.compile(r"(?:\w+_)?(?:pin|password|passcode|secret|token|api_?key)", re.IGNORECASE)


def advice_of(settings: Settings) -> Iterator[ConfigWarning]:
    """Yield what to say of the modes of the files that a configuration names, and of its own."""
    if os.name != "posix":
        return
    written = [
        (place, key, value)
        for place, key, value in _texts(settings)
        if _SECRET.fullmatch(key) or _SECRET_FILE.search(key)
    ]
    secrets = dict(_secret_files(settings, written))
    if any(_SECRET.fullmatch(key) for _, key, _ in written):
        yield from _readable((), settings.path)
    for key, path in secrets.items():
        yield from _readable(key, path)
    yield from _writable((), settings.path)
    yield from _writable((), settings.path.absolute().parent)
    for key, path in secrets.items():
        yield from _writable(key, path)
    for number, folder in enumerate(settings.plugin_dirs):
        for path in (folder, *sorted(folder.glob("*.py"))):
            yield from _writable(("plugin_dirs", number), path)
    if settings.audit.path is not None:
        file = settings.resolve(settings.audit.path)
        for path in (file, file.absolute().parent):
            yield from _writable(("audit", "path"), path)


def _secret_files(
    settings: Settings, written: Iterable[tuple[Key, str, str]]
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
    named += [((*place, key), file) for place, key, file in written if _SECRET_FILE.search(key)]
    found = {key: root / file for key, file in named if file is not None}
    yield from found.items()
    for number, path in enumerate(settings.secret_files):
        if path not in found.values():
            yield ("auth", number), path


def _texts(settings: Settings) -> Iterator[tuple[Key, str, str]]:
    """Yield each text in the settings of the plugins: its place, key and value."""
    waiting: list[tuple[Key, Any]] = [
        (("plugins", name, "settings"), table.settings) for name, table in settings.plugins.items()
    ]
    while waiting:
        place, here = waiting.pop()
        for key, value in here.items() if isinstance(here, Mapping) else enumerate(here):
            if isinstance(value, str):
                yield place, str(key), value
            elif isinstance(value, Mapping | list):
                waiting.append(((*place, key), value))


def _readable(key: Key, path: Path) -> Iterator[ConfigWarning]:
    mode = _mode(path)
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        others = "every user" if mode & stat.S_IROTH else "its group"
        text = f"{path} can be read by {others}: chmod 600 {shlex.quote(str(path))}"
        yield ConfigWarning(key[:1] if key[:1] == ("auth",) else key, text)


def _writable(key: Key, path: Path) -> Iterator[ConfigWarning]:
    mode = _mode(path)
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        text = f"{path} can be changed by every user: chmod o-w {shlex.quote(str(path))}"
        yield ConfigWarning(key[:1] if key[:1] == ("auth",) else key, text)


def _mode(path: Path) -> int:
    """Return the mode of a file or folder; 0 for anything else, and for what is not there."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return 0
    return mode if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else 0
