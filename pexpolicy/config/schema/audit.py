"""Schema of ``[audit]`` and ``[privacy]``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pexpolicy.config.schema import Count, Table
from pexpolicy.config.schema.server import DatabaseUrl


class ShipTable(Table):
    """``[audit.ship]``: the database that ``pexpolicy audit ship`` copies the lines to."""

    url: DatabaseUrl
    """`postgresql://USER@HOST:PORT/DATABASE`. The connection is encrypted and verified except on
    loopback and sockets; `?sslmode=`, `?sslrootcert=` and others are those of PostgreSQL.
    """
    password_file: str | None = None
    """File with the password, read by `pexpolicy audit ship` and by commands that read the
    database; the server does not read it.
    """
    keep_days: Count | None = None
    """Days that lines stay in the database. Unset: all of them."""
    max_gb: float = Field(20.0, gt=0.0)
    """Size in gigabytes of rotated files beyond `audit.keep` that stay as they are not in the
    database yet; then the oldest is removed.
    """


MAX_INSTANCE = 100


def _file(path: str) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        raise ValueError("is a URL, and lines go to a file, or to standard output without a path")
    return path


class AuditTable(Table):
    """``[audit]``: destination of the lines (standard output without a path), durability, and the
    reply when they cannot be written.
    """

    path: Annotated[str, AfterValidator(_file)] | None = None
    """File that lines are appended to, created with mode 0600. Without it: standard output."""
    level: Literal["file", "fsync", "required"] = "file"
    """Guarantee when a reply is sent, see [audit.md](audit.md#levels). `file`: its line was
    written to the operating system. `fsync`: it is on the disk. `required`: as `fsync`, and no
    decision is sent without its line.
    """
    on_fail: Literal["answer", "fallback", "reject"] = "answer"
    """What to reply when the audit line cannot be stored. `answer`: the normal reply. `fallback`:
    let Infinity decide. `reject`: refuse the call. The last two have the reason `audit
    unavailable`. Level `required` needs `fallback` or `reject`.
    """
    spool: str | None = None
    """Folder for lines that cannot be written, best on another disk."""
    rotate_mb: Count | None = None
    """Size in megabytes at which the file is renamed and a new one started; checked once a second.
    """
    rotate_hours: float | None = Field(None, gt=0.0)
    """The same by the age of its first line."""
    keep: Count | None = None
    """Rotated files that are kept; older ones are removed. Unset: all. Only with `rotate_mb` or
    `rotate_hours`; all three need a path.
    """
    instance: str | None = Field(None, min_length=1, max_length=MAX_INSTANCE)
    """Name of this server in each line, as `instance`. Default: the environment variable
    `PEXPOLICY_INSTANCE`, else the name of the host.
    """
    sign_key_env: str | None = None
    """Environment variable that holds an Ed25519 key in PEM, with which checkpoints are signed."""
    sign_key_file: str | None = None
    """The same from a file."""
    ship: ShipTable | None = None
    """The database for the lines of all servers, see
    [one audit for several servers](tasks/one-audit-for-several-servers.md).
    """

    def _misfits(self) -> Iterator[str]:
        limits = (self.rotate_mb, self.rotate_hours)
        if self.level == "required" and self.on_fail == "answer":
            yield 'level = "required" needs on_fail = "fallback" or "reject"'
        if self.path is None and self.level != "file":
            yield f'level = "{self.level}" needs a path: standard output has no disk'
        if self.path is None and (*limits, self.keep) != (None, None, None):
            yield "standard output is not rotated: write a path, or leave rotate_* and keep out"
        if self.path is None and self.ship is not None:
            yield "ship needs a path: lines of standard output cannot be read again"
        if self.keep is not None and limits == (None, None):
            yield "keep is for rotate_mb and rotate_hours: without them nothing is rotated"


class PrivacyTable(Table):
    """``[privacy]``: form of names, aliases and addresses of people in the audit."""

    personal: Literal["clear", "hashed", "dropped"] = "clear"
    """Form of personal values in the audit. `hashed`: `hash:` and 16 digits, equal for the same
    person and key, so that lines can still be joined. `dropped`: omitted; the line lists their
    names under `removed`.
    """
    key_env: str | None = None
    """`hashed` only: environment variable that holds the key. `check` warns below 16 characters."""
    key_file: str | None = None
    """The same from a file, relative to this one. With the key one can try names until a hash
    matches: keep it secret from readers of the audit.
    """

    def _misfits(self) -> Iterator[str]:
        source = self.secret("key")
        if source.places != (self.personal == "hashed"):
            yield f'personal = "hashed" needs one key, and no other form has any: {source.keys}'
