"""Files that a policy is built from: reading, tracking, versions, and who may read them."""

from __future__ import annotations

import errno
import grp
import hashlib
import math
import os
import pwd
import re
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from glob import glob
from pathlib import Path
from typing import Literal, NamedTuple

from pexpolicy.models.context import using
from pexpolicy.tasks import start_thread
from pexpolicy.text import did_you_mean


@dataclass(slots=True)
class Tracked:
    """What a policy is built from in addition to its configuration file."""

    files: list[Path] = field(default_factory=list)
    """When one of them changes, the policy is built again."""
    secrets: list[Path | str] = field(default_factory=list)
    """Those of the files that hold a secret, and the environment variables that do."""
    digests: dict[str, str] = field(default_factory=dict)
    """The SHA-256 of what was read, by absolute path."""


_TRACKED: ContextVar[Tracked | None] = ContextVar("tracked", default=None)
"""What is read inside. Readers far below the builder, such as validators, take no parameter for it,
and policies are built in several threads at a time.
"""
Kept = Mapping[str, Path]
"""The copies of files, by the absolute path of each file."""
_KEPT: ContextVar[Kept | None] = ContextVar("kept", default=None)
"""What is read in place of the files themselves, for the same reason."""
READ_TIMEOUT_S = 10.0
"""Time for reading one file; a file server that is down may never answer."""
_NOT_IN_A_PATH = re.compile(r"^~|\$\w+|\$\{\w+\}|%[a-zA-Z](?![0-9A-Za-z])|%\w+%|[*?\\\0]|\bhttps?:")
"""What other programs replace in a path, or write differently."""
CLOCK_STEP = 0.02
"""Seconds by which the timestamp of a file may be older than the clock."""


@contextmanager
def tracking() -> Iterator[Tracked]:
    """Yield what is tracked inside; one around it has it too, at the end."""
    tracked, outer = Tracked(), _TRACKED.get()
    try:
        with using(_TRACKED, tracked):
            yield tracked
    finally:
        if outer is not None:
            outer.files += tracked.files
            outer.secrets += tracked.secrets
            outer.digests |= tracked.digests


def reading(kept: Kept | None) -> AbstractContextManager[None]:
    """Read copies inside in place of the files that have one."""
    return using(_KEPT, kept)


def kept_copies() -> Kept | None:
    """Return the copies that are read; ``None`` while the files themselves are."""
    return _KEPT.get()


def files_matching(pattern: str, *, recursive: bool = False) -> list[Path]:
    """Return the files of a ``glob`` pattern in order; of those with a copy, if copies are read.

    ``**`` matches any folders if it is ``recursive``.
    """
    if (kept := _KEPT.get()) is None:
        return sorted(map(Path, glob(pattern, recursive=recursive)))  # noqa: PTH207 - as above
    whole = os.path.abspath(pattern)  # noqa: PTH100 - as for the copies
    # As here ``*`` matches slashes too; ``**`` stands for no folder as well.
    forms = (whole, whole.replace("/**/", "/")) if recursive else (whole,)
    depth = whole.count("/")
    names = (name for name in kept if recursive or name.count("/") == depth)
    return sorted(Path(name) for name in names if any(fnmatchcase(name, one) for one in forms))


def track_file(file: Path) -> None:
    """Track a file that is about to be read, even if it is missing. When it changes, the policy
    is built again.
    """
    if (tracked := _TRACKED.get()) is not None:
        tracked.files.append(file)


def track_secret(place: Path | str) -> None:
    """Track a file, or the name of an environment variable, that holds a secret."""
    if isinstance(place, Path):
        track_file(place)
    if (tracked := _TRACKED.get()) is not None:
        tracked.secrets.append(place)


def read_file(path: Path, timeout: float = READ_TIMEOUT_S) -> bytes:
    """Read a regular file, or its copy if copies are read, within ``timeout`` seconds.

    Raises ``OSError`` if that is not possible, and for a pipe or device, which may have no end. A
    read that takes longer is left to a thread that does not keep the process alive.
    """
    # Not resolved: a link stands for the file that it names at the time.
    name, kept = os.path.abspath(path), _KEPT.get() or {}  # noqa: PTH100 - keeps links
    source = kept.get(name, path)
    done = start_thread(lambda: _read_regular(source), "pexpolicy-read")
    try:
        content = done.result(timeout)
    except ValueError:
        raise OSError(errno.EINVAL, "its name holds a NUL character", str(path)) from None
    except TimeoutError:
        if done.done():
            raise  # the file system timed out
        raise TimeoutError(errno.ETIMEDOUT, f"no answer within {timeout:g} s", str(path)) from None
    if (tracked := _TRACKED.get()) is not None:
        tracked.digests[name] = hashlib.sha256(content).hexdigest()
    return content


NOT_REGULAR = "it is not a regular file"


def _read_regular(path: Path) -> bytes:
    # Opening a pipe would wait for a writer.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
        return file.read()


def read_own(path: Path, most: int) -> bytes:
    """Read a file that ``open_own`` opens, of at most ``most`` bytes; raises ``OSError``."""
    # Root looks after the servers of other users: it also reads what the folder's owner has there.
    owner = path.parent.stat().st_uid if os.geteuid() == 0 else 0
    with os.fdopen(open_own(path, os.O_RDONLY, most=most, owner=owner), "rb") as file:
        return file.read(most)


def open_own(
    path: Path | str,
    flags: int,
    *,
    most: int | None = None,
    folder: int | None = None,
    owner: int = 0,
) -> int:
    """Open a file of this server in a folder that others may write to; return the descriptor.

    Raises ``OSError`` for a link, and what ``check_own`` refuses. A new file has mode 0600;
    ``folder`` is an open one that a relative path is in; ``owner`` may own the file too.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600, dir_fd=folder)
    try:
        check_own(path, os.fstat(descriptor), most, owner)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def write_own(
    path: Path, content: bytes, *, sync: bool = False, like: os.stat_result | None = None
) -> None:
    """Write a file that only this user can read, in one step; raises ``OSError``.

    With ``sync`` it is on the disk on return. Without, a power failure may leave a torn one. It
    gets the owner, as far as possible, and the rights of a file that it is to be ``like``, or those
    of a folder but for others.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.unlink(missing_ok=True)  # of a killed process with the same number
        with os.fdopen(open_own(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
            file.write(content)
            if like is not None:
                with suppress(PermissionError):
                    os.fchown(file.fileno(), like.st_uid, like.st_gid)
                kept = 0o640 if stat.S_ISDIR(like.st_mode) else 0o7777
                os.fchmod(file.fileno(), like.st_mode & kept)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some file systems cannot sync a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_own(
    path: Path | str, found: os.stat_result | None = None, most: int | None = None, owner: int = 0
) -> None:
    """Raise ``OSError`` unless a path is a regular file without a second name, of this user, root
    or ``owner``, with at most ``most`` bytes.
    """
    found = os.lstat(path) if found is None else found
    for is_wrong, code, text in (
        (not stat.S_ISREG(found.st_mode), errno.EINVAL, NOT_REGULAR),
        (found.st_nlink > 1, errno.EMLINK, "it is a link: the file has another name too"),
        (found.st_uid not in (0, os.geteuid(), owner), errno.EPERM, "it belongs to another user"),
        (found.st_size > (most or math.inf), errno.EFBIG, f"it has more than {most} bytes"),
    ):
        if is_wrong:
            raise OSError(code, text, str(path))


class FileVersion(NamedTuple):
    """One version of a file.

    An editor that writes in place changes time or size. One that renames, and a symbolic link with
    another target, change the inode number.
    """

    device: int
    inode: int
    modified_ns: int
    changed_ns: int
    size: int


Look = Mapping[Path, FileVersion | None]
"""The versions of some files; ``None`` for a missing one."""


def stat_files(files: Iterable[Path]) -> Look:
    """Return the present version of each file, without reading it."""
    return {file: version_of(file) for file in files}


def known_at(look: Look, moment: float) -> Look:
    """Return the versions that existed before a moment, in seconds since the epoch."""
    latest = (moment - CLOCK_STEP) * 1e9
    return {file: one if one and one.changed_ns < latest else None for file, one in look.items()}


def version_of(file: Path) -> FileVersion | None:
    """Return the present version of a file; ``None`` for a missing one."""
    try:
        at = os.stat(file)  # noqa: PTH116 - Path.stat is the same, and slower
    except (OSError, ValueError):  # the latter for a name with a NUL
        return None
    return FileVersion(at.st_dev, at.st_ino, at.st_mtime_ns, at.st_ctime_ns, at.st_size)


class EncodingError(ValueError):
    """The bytes are not UTF-8 text; the message begins with the line, counted from 1."""


def decode_text(content: bytes) -> str:
    """Decode UTF-8 with or without a byte order mark; raises ``EncodingError``."""
    try:
        # NUL is valid in UTF-8, but not in a text: UTF-16 and workbooks have it.
        return content.replace(b"\0", b"\xff").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise EncodingError(
            f"line {line}: is not UTF-8 text, but another encoding such as UTF-16, or a workbook; "
            "save the file as UTF-8, in Excel as CSV UTF-8"
        ) from None


def why_unusable(path: Path, error: OSError) -> str:
    """Return why a file cannot be read, and what to do about it."""
    why = error.strerror or str(error) or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return why + missing_hint(path)
    if isinstance(error, PermissionError):
        user = FileUser.present()
        return f"{why} for {user}: {user.grant(path)}"
    return f"{why}; name the file in it" if isinstance(error, IsADirectoryError) else why


def missing_hint(path: Path) -> str:
    """Return why a file may not be there, after a semicolon, or nothing."""
    no_folder = "" if path.parent.exists() else f"there is no folder {path.parent}"
    if hint := odd_path(str(path)) or no_folder:
        return f"; {hint}"
    return did_you_mean(path.name, [one.name for one in path.parent.glob("*")])


def odd_path(written: str) -> str:
    """Return what a path holds that the system does not understand, or nothing."""
    found = _NOT_IN_A_PATH.search(written)
    return f"{found[0]} has no meaning in a path: write that of one file" if found else ""


UNITS = tuple(Path(root, "systemd/system") for root in ("/etc", "/run", "/usr/local/lib", "/lib"))
MADE = {"State": "/var/lib", "Cache": "/var/cache", "Logs": "/var/log", "Runtime": "/run"}
"""The roots of what systemd makes for the user of a service, by the key ``StateDirectory=`` ..."""
CREDENTIALS, ACL = Path("/run/credentials"), "system.posix_acl_access"
DYNAMIC = range(61184, 65520)
"""Numbers for ``DynamicUser=yes``: each start of a service may have another one."""
OVERFLOW = 65534
"""What a service with ``PrivateUsers=yes`` sees for each group but its own and that of root."""
Use = Literal["read", "secret", "file", "folder", "made", "kept", "other"]


class NamedPath(NamedTuple):
    """A path that the configuration names, and the key that names it."""

    path: Path
    key: tuple[str | int, ...] = ()
    use: Use = "read"
    """The server reads it (as no other user may, if it is secret), writes this file or to this
    folder, which it may have made, keeps its state there, or leaves it to another process.
    """


class FileUser(NamedTuple):
    """A user as which files are judged."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    config: Path = Path("/")
    folders: tuple[Path, ...] = (CREDENTIALS,)
    """What systemd makes for it; the first one is best for what it writes."""

    @classmethod
    def present(cls, config: Path = Path("/")) -> FileUser:
        """Return the user of this process."""
        return cls(os.geteuid(), os.getegid(), tuple(os.getgroups()), config)

    @classmethod
    def that_serves(cls, config: Path, name: str | None = None) -> FileUser:
        """Return the user ``name``, else that of the systemd unit, else the present one.

        Raises ``ValueError``.
        """
        unit = {} if name else _unit_of(config.absolute())
        if not (name or unit):
            return cls.present(config)
        is_dynamic = unit.get("DynamicUser", ["no"])[-1] == "yes"
        name = name or unit.get("User", unit["Name"] if is_dynamic else ["root"])[-1]
        uid = gid = DYNAMIC.start
        groups: list[int] = []
        try:
            _, _, uid, gid, *_ = pwd.getpwnam(name)
            groups = os.getgrouplist(name, gid)
        except KeyError:
            if not unit:
                raise ValueError(f"there is no user {name}") from None
        for group in (*unit.get("SupplementaryGroups", ()), *unit.get("Group", ())):
            with suppress(KeyError):
                groups.append(grp.getgrnam(group).gr_gid)
        made = [Path(root, n) for k, root in MADE.items() for n in unit.get(f"{k}Directory", ())]
        return cls(uid, gid, tuple(groups), config, (*made, CREDENTIALS))

    @property
    def state_folder(self) -> Path | None:
        """What systemd makes for its state."""
        return next((one for one in self.folders if one.is_relative_to(MADE["State"])), None)

    def __str__(self) -> str:
        with suppress(KeyError):
            return "the service" if self.uid in DYNAMIC else pwd.getpwuid(self.uid).pw_name
        return str(self.uid)

    def may(self, path: Path, mode: int) -> bool:
        """Return whether it has a right (``os.R_OK`` ...); what an ACL says counts as one."""
        if any(path.is_relative_to(one) for one in self.folders):
            return True
        if self.uid == os.geteuid():
            return os.access(path, mode, effective_ids=True)
        above = path.resolve().parents
        return self._has(path, mode) and all(self._has(one, os.X_OK) for one in above)

    def _has(self, path: Path, mode: int) -> bool:
        with suppress(OSError):
            found = path.stat()
            is_member = found.st_gid in (self.gid, *self.groups)
            bits = found.st_mode >> (6 if found.st_uid == self.uid else 3 * is_member)
            return bits & mode == mode or self.uid == 0 or ACL in os.listxattr(path)
        return False

    def may_read(self, path: Path) -> bool:
        """Return whether it may read a file, or enter a folder."""
        return self.may(path, os.X_OK if path.is_dir() else os.R_OK)

    def grant(self, path: Path) -> str:
        """Return the command that lets it read a file, or enter a folder, and not every user."""
        chain = (*reversed((*path.resolve().parents, *path.absolute().parents)), path)
        path = next((one for one in chain if not self.may_read(one)), path)
        if path.is_dir() and not path.is_relative_to(self.config.absolute().parent):
            return f"{path} is closed to it: put the file elsewhere, such as in /etc/pexpolicy"
        owner, quoted = path.stat().st_uid, shlex.quote(str(path))
        private, shared = ("700", "750") if path.is_dir() else ("600", "640")
        if group := self.shared_group(path):
            name = next((one.gr_name for one in grp.getgrall() if one.gr_gid == group), group)
            if group == OVERFLOW:
                name = f"--reference={shlex.quote(str(path.absolute().parent))}"
            return f"chgrp {name} {quoted} && chmod {shared} {quoted}"
        if self.uid in (0, owner):
            return f"chmod {private} {quoted}"
        if self.uid in DYNAMIC:
            return f"write SupplementaryGroups=GROUP in its unit, and: chgrp GROUP {quoted}"
        return f"chown {self} {quoted} && chmod {private} {quoted}"

    def shared_group(self, path: Path) -> int:
        """Return the group by which it reads files of the configuration: that of a folder above, or
        the only one that it has; 0 where a file needs none.
        """
        owner = path.stat().st_uid
        private = {0, *DYNAMIC, self.gid if owner == self.uid else 0}
        given = {self.gid, *self.groups} - private
        for place in (*path.absolute().parents, self.config, self.config.absolute().parent):
            with suppress(OSError):
                gid = place.stat().st_gid
                if gid in given or (self.uid == 0 and gid not in private):
                    return gid
        return given.pop() if owner != self.uid and len(given) == 1 else 0


def _unit_of(config: Path) -> dict[str, list[str]]:
    """Return the words of each key of the unit that serves a configuration, and its ``Name``."""
    for path in (one for folder in UNITS for one in sorted(folder.glob("*.service"))):
        with suppress(OSError):
            text = path.read_text(errors="replace")
            if re.search(r"\bserve\b", text) and str(config) in text:
                found = {"Name": [path.stem]}
                added = (one for folder in UNITS for one in folder.glob(f"{path.name}.d/*.conf"))
                text = "\n".join((text, *(one.read_text(errors="replace") for one in added)))
                for key, words in re.findall(r"^(\w+)[ \t]*=(.*)$", text, re.MULTILINE):
                    found.setdefault(key, []).extend(words.split())
                return found
    return {}
