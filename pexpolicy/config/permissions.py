"""The user that serves, what it may read and write, and the commands that let it."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

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
