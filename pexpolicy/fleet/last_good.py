"""The last configurations that a server has activated, kept on disk as they were.

The folder ``objects`` has the content of each file once, by its SHA-256. The folder ``history`` has
a manifest for each activation, which is written last and in one step: a server that is killed while
it keeps one leaves the one before. Secret files are not copied.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from pexpolicy.config.files import Kept, open_own, read_file, read_own, sync_folder, write_own
from pexpolicy.config.settings import ConfigError, Settings, state_dir_of
from pexpolicy.fleet.policy_hash import PolicyInputs, digest_of, secret_digest

KEPT_NUMBER = 10
MAX_BYTES = 1 << 30
"""Bytes of all copies."""
MAX_MANIFEST = 1 << 26
_STATE_DIR = re.compile(rb"""^\s*state_dir\s*=\s*(["'])(.+?)\1""", re.MULTILINE)


class Activation(msgspec.Struct, frozen=True):
    """One manifest. Paths are absolute; what could not be read has an empty digest."""

    time: float
    """Seconds since the epoch."""
    policy_hash: str
    version: str
    """That of pexpolicy."""
    config: str
    files: dict[str, str]
    """The SHA-256 of each file."""
    secrets: dict[str, str]
    """An HMAC of each secret, as in ``PolicyInputs``."""
    author: str = ""
    """Who asked for it, and the Git commit of the folder, as far as known."""
    changes: tuple[str, ...] = ()
    """What changed since the configuration that was active before."""

    @property
    def moment(self) -> str:
        """Its time in UTC."""
        return f"{datetime.fromtimestamp(self.time, UTC):%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True, slots=True)
class Fallback:
    """Why a server decides by files that were kept, and by which."""

    kept: Activation
    error: ConfigError
    """What is wrong with the present files."""
    secrets: Sequence[str]
    """Secrets that are others than those that were used with the files."""

    def __str__(self) -> str:
        others = f"; other secrets: {', '.join(self.secrets)}" if self.secrets else ""
        return (
            f"decides by the files of {self.kept.moment} ({self.kept.policy_hash}), as it refused "
            f"the present ones at its start{others}"
        )


def state_folder(config: Path, salvaged: Settings | None) -> Path:
    """Return the state folder of a configuration, which may be no TOML."""
    if salvaged is not None:
        return salvaged.state_dir
    try:
        named = _STATE_DIR.search(read_file(config))
    except OSError:
        named = None
    return state_dir_of(config, named and os.fsdecode(named[2]))


def history(folder: Path, config: Path) -> list[Activation]:
    """Return what is kept of a configuration, the latest first."""
    own = os.path.abspath(config)  # noqa: PTH100 - as in the manifest
    return [one for _, one in _manifests(folder) if one.config == own]


def _manifests(folder: Path) -> Iterator[tuple[Path, Activation]]:
    """Yield what can be read of all configurations, the latest first."""
    for path in sorted((folder / "history").glob("*.json"), reverse=True):
        with suppress(OSError, msgspec.MsgspecError):
            yield path, msgspec.json.decode(read_own(path, MAX_MANIFEST), type=Activation)


def copy_of(folder: Path, kept: Activation, name: str) -> bytes:
    """Return what was kept of a file; raises ``OSError``, also for a damaged copy."""
    path = folder / "objects" / kept.files[name]
    content = read_file(path)
    if hashlib.sha256(content).hexdigest() != kept.files[name]:
        raise OSError(errno.EIO, "it is damaged", str(path))
    return content


def last_good(folder: Path, config: Path, policy_hash: str = "") -> tuple[Activation, Kept] | None:
    """Return the latest that is whole, or of this policy hash, with the copies of its files."""
    for kept in history(folder, config):
        if policy_hash not in ("", kept.policy_hash):
            continue
        copies = {name: folder / "objects" / one for name, one in kept.files.items() if one}
        with suppress(OSError):
            for name in copies:
                copy_of(folder, kept, name)
            return kept, copies
    return None


def changed_secrets(kept: Activation, settings: Settings) -> list[str]:
    """Return the secret files that are others than those that were used."""
    return [
        name
        for name, before in kept.secrets.items()
        if name.startswith(os.sep) and secret_digest(settings, Path(name)) != before
    ]


def changed_files(kept: Activation) -> list[Path]:
    """Return the files that are not there now as they were."""
    files = kept.files.items()
    return [Path(name) for name, one in files if one and digest_of(Path(name)) != one]


def keep(
    folder: Path,
    settings: Settings,
    inputs: PolicyInputs,
    version: str,
    author: str = "",
    changes: tuple[str, ...] = (),
) -> None:
    """Keep the files of a policy that was activated, unless they are the latest that are kept.

    ``version`` is that of pexpolicy, ``author`` who asked for it. Raises ``OSError``, also for a
    file that has changed since: it will be reloaded.
    """
    config, objects = os.path.abspath(settings.path), folder / "objects"  # noqa: PTH100
    files, secrets = dict(inputs.files), dict(inputs.secrets)
    for one in (objects, folder / "history"):
        one.mkdir(mode=0o700, exist_ok=True)
    # Other servers may keep theirs in the same folder.
    with os.fdopen(open_own(folder / "history.lock", os.O_WRONLY | os.O_CREAT), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = next(iter(history(folder, settings.path)), None)
        then = {} if before is None else before.files
        same = inputs.policy_hash, files, secrets
        if before is not None and (before.policy_hash, then, before.secrets) == same:
            return
        names = {Path(one).name for one in files.keys() | then if files.get(one) != then.get(one)}
        if before is not None and not changes:
            changes = tuple(f"file {one}" for one in sorted(names))
        missing = {k: one for k, one in files.items() if one and not (objects / one).exists()}
        copies = [objects / one for name, one in files.items() if one and name not in missing]
        if sum(one.stat().st_size for one in (*copies, *map(Path, missing))) > MAX_BYTES:
            raise OSError(errno.EFBIG, f"its files have more than {MAX_BYTES} bytes", config)
        for name, digest in missing.items():
            content = read_file(Path(name))
            if hashlib.sha256(content).hexdigest() != digest:
                raise OSError(errno.ESTALE, "it has changed since it was read", name)
            write_own(objects / digest, content, sync=True)
        # The clock may have been set back.
        moment = time.time() if before is None else max(time.time(), before.time + 0.001)
        author = ", ".join(filter(None, (author, _commit_of(settings.path))))
        facts = moment, inputs.policy_hash, version, config, files, secrets, author, changes
        stamp = f"{datetime.fromtimestamp(moment, UTC):%Y%m%dT%H%M%S.%fZ}-{inputs.policy_hash}"
        manifest = msgspec.json.encode(Activation(*facts))
        write_own(folder / "history" / f"{stamp}.json", manifest, sync=True)
        _remove_others(folder)


def _remove_others(folder: Path) -> None:
    """Remove all but the last ten of each configuration, and copies that none of them needs."""
    objects, counts, used = folder / "objects", Counter[str](), dict[str, int]()
    for path, one in _manifests(folder):
        counts[one.config] += 1
        wanted = {digest for digest in one.files.values() if digest} - used.keys()
        with suppress(OSError):
            sizes = {digest: (objects / digest).stat().st_size for digest in wanted}
            fits = sum(used.values()) + sum(sizes.values()) <= MAX_BYTES
            if counts[one.config] == 1 or (fits and counts[one.config] <= KEPT_NUMBER):
                used |= sizes
                continue
        path.unlink(missing_ok=True)
    sync_folder(folder / "history")
    for copy in objects.iterdir():
        if copy.name not in used:
            copy.unlink(missing_ok=True)


def _commit_of(config: Path) -> str:
    """Return the Git commit of the folder of a configuration, the last one in the log of ``HEAD``.

    Git itself would run programs that the repository names.
    """
    for folder in config.absolute().parents:
        with suppress(OSError, ValueError):
            log = read_file(folder / ".git" / "logs" / "HEAD").decode("ascii", "replace")
            *_, last = re.findall("^[0-9a-f]+ ([0-9a-f]{12})", log, re.MULTILINE)
            return f"commit {last}"
    return ""
