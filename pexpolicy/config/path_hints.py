"""Hints for files that are not there, or that this user may not use."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from glob import has_magic
from itertools import islice
from pathlib import Path, PurePath

_SCHEME = re.compile(r"[a-z]{2,5}:")
_MAX_LISTED = 1000
"""Entries of a folder that are compared with a name."""


def why_unusable(path: Path, error: OSError) -> str:
    """Return why a file cannot be read, and what to do about it."""
    why = error.strerror or str(error) or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return why + missing_hint(path)
    if isinstance(error, PermissionError):
        return why + denied_hint(path)
    return f"{why}{_folder_hint(path)}" if isinstance(error, IsADirectoryError) else why


def _folder_hint(path: Path) -> str:
    with suppress(OSError):
        if path.name and next(path.iterdir(), None) is None:
            return (
                " without a file; Docker makes one where the file to mount is missing: remove it, "
                "and write the file"
            )
    return "; name the file in it"


def missing_hint(path: Path) -> str:
    """Return why a file may not be there, after a semicolon, or nothing."""
    forms = {
        "~ is not replaced here: write the whole path": path.parts[:1] == ("~",)
        or path.parent.name == "~",
        "it is a URL: copy the file here, and write its path": any(
            map(_SCHEME.fullmatch, path.parts)
        ),
        "a * is no wildcard here: name each file": has_magic(str(path)),
        "there is a blank at the end of its name: remove it": path.name != path.name.rstrip(),
        "write / between folders": "\\" in path.name,
    }
    hint = next((text for text, is_so in forms.items() if is_so), "") or _variable(str(path))
    return f"; {hint}" if hint else _other_name(path)


def _other_name(path: Path) -> str:
    """Return which file was probably meant, after a semicolon, or nothing."""
    with suppress(OSError):
        if path.is_symlink() and not path.exists():
            return f"; it is a symbolic link to {path.readlink()}, which is not there"
        if not path.parent.exists():
            return f"; there is no folder {path.parent}"
        names = [entry.name for entry in islice(path.parent.iterdir(), _MAX_LISTED)]
        if same := next((name for name in names if name.lower() == path.name.lower()), ""):
            return f"; did you mean {same!r}? Capitals count"
        return next((f"; did you mean {one!r}?" for one in _close_names(path.name, names)), "")
    return ""


def _close_names(name: str, names: Sequence[str]) -> Sequence[str]:
    """Return names that differ in a letter or two, or in their suffix only."""
    stem = PurePath(name).stem
    others = [one for one in names if PurePath(one).stem == stem]
    return get_close_matches(name, names, n=1, cutoff=0.8) or sorted(others)


def odd_path(written: str) -> str:
    """Return what a path holds that the system does not understand, or nothing."""
    if written.startswith("~"):
        return "~ is not replaced here: write the whole path"
    if "\0" in written:
        return "holds a NUL character, which no path has: remove it"
    return _variable(written) or ("write / between folders" if "\\" in written else "")


def _variable(written: str) -> str:
    found = re.search(r"\$\w+|\$\{\w+\}|%[a-zA-Z](?![0-9A-Za-z])|%\w+%", written)
    return f"{found[0]} is not replaced here: write the whole path" if found else ""


def denied_hint(path: Path) -> str:
    """Return which user may not read a file, and the command that changes it, after a semicolon;
    nothing where the mode is not the reason.
    """
    user = _user()
    if closed := _closed_folder(path):
        advice = f"chmod a+x {shlex.quote(str(closed))}, or move the file"
        return f"; {user} may not enter {closed}: {advice}"
    if _may(path, os.R_OK):
        return ""
    return f"; {user} may not read it: {_grant(path, 'r', stat.S_IRUSR)}"


def unwritable(path: Path) -> str:
    """Return why this user cannot append to a file, or nothing; no file is made or opened."""
    user, folder = _user(), path.parent
    if closed := _closed_folder(path):
        return f"{user} may not enter {closed}: chmod a+x {shlex.quote(str(closed))}"
    if path.exists():
        if _may(path, os.W_OK):
            return ""
        return f"{user} may not write to {path}: {_grant(path, 'w', stat.S_IWUSR)}"
    if not folder.is_dir() or _may(folder, os.W_OK | os.X_OK):
        return ""
    return f"{user} may not make a file in {folder}: {_grant(folder, 'wx', stat.S_IWUSR)}"


def _closed_folder(path: Path) -> Path | None:
    """Return the first folder on the way to a file that this user may not enter."""
    above = reversed(path.parents)
    return next((folder.absolute() for folder in above if not _may(folder, os.X_OK)), None)


def _grant(path: Path, right: str, bit: int) -> str:
    """Return the command that gives this user a right on a file or folder."""
    name = shlex.quote(str(path))
    with suppress(OSError):
        status = path.stat()
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            if right == "r":
                return "it is mounted read-only: change its mode or group where it comes from"
            return "its file system is read-only: mount a writable one there"
        if status.st_uid != os.geteuid():
            chown = f"chown {_user_name()} {name}"
            return chown if status.st_mode & bit else f"{chown}; chmod u+{right} {name}"
    return f"chmod u+{right} {name}"


def _may(path: Path, right: int) -> bool:
    """Return whether the user that this process acts as has a right; true where it is unknown."""
    if os.name != "posix":
        return True
    effective = os.access in os.supports_effective_ids
    if os.access(path, right, effective_ids=effective):
        return True
    try:
        path.lstat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def _user() -> str:
    return f"the user {_user_name()}"


def _user_name() -> str:
    if os.name != "posix":
        return "of this process"
    import pwd  # noqa: PLC0415 - for messages only

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # as in a container
        return str(os.geteuid())
