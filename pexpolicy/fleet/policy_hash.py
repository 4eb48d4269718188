"""The policy hash: equal on two servers that decide alike.

It covers the tables of the configuration that decide, the content of the files that the policy was
built from, the versions of the plugins and of this package, and the secrets of plugins. Secrets go
in as an HMAC: a plain digest, which is in each audit line, would confirm a guessed weak secret.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets as random
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pexpolicy.config.files import Tracked, open_own, read_file, read_own, write_own
from pexpolicy.config.settings import Settings

KEY_NAME = "policy-hash.key"
"""The key that a server makes for itself in its state folder. Hashes of servers with keys of their
own cannot be compared where plugins have secrets."""


@dataclass(frozen=True, slots=True)
class PolicyInputs:
    """What a policy was built from, and the hash of it."""

    policy_hash: str
    """16 hexadecimal digits."""
    files: Mapping[str, str]
    """The SHA-256 of each file, by absolute path; empty for one that could not be read."""
    secrets: Mapping[str, str]
    """An HMAC of each secret, by absolute path or the name of the variable; empty without a key."""


def inputs_of(settings: Settings, tracked: Tracked, versions: Iterable[str]) -> PolicyInputs:
    """Return what a policy was built from.

    Only the order of the files counts in the hash, not their names: the same files in another
    folder have the same hash. Without a key that can be read, secrets are left out. ``versions``
    are those of the distributions that the policy uses.
    """
    digest = hashlib.sha256(settings.tables_digest)
    for version in sorted(set(versions)):
        digest.update(version.encode() + b"\0")
    own = os.path.abspath(settings.path)  # noqa: PTH100 - as ``read_file``
    files = {own: settings.content_digest}
    secrets: dict[str, str] = {}
    if settings.present is not None:
        pointer, *named = settings.present.files
        # It may name another bundle by now.
        files[str(pointer.absolute())] = hashlib.sha256(
            settings.present.folder.name.encode()
        ).hexdigest()
        files |= {str(one.absolute()): digest_of(one) for one in named}
    for file in tracked.files:
        if file not in tracked.secrets:
            name = os.path.abspath(file)  # noqa: PTH100 - the same
            files[name] = tracked.digests.get(name) or digest_of(file)
            digest.update(files[name].encode() + b"\0")
    for place in tracked.secrets:
        name = os.path.abspath(place) if isinstance(place, Path) else place  # noqa: PTH100
        if secret := secret_digest(settings, place):
            secrets[name] = secret
            digest.update(secret.encode() + b"\0")
    return PolicyInputs(digest.hexdigest()[:16], files, secrets)


def secret_digest(settings: Settings, place: Path | str) -> str:
    """Return the HMAC of a secret in a file or an environment variable; empty without a key."""
    key = _key(settings)
    return hmac.digest(key, _content_of(place) or b"", "sha256").hex() if key else ""


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file; empty for one that cannot be read."""
    content = _content_of(file)
    return "" if content is None else hashlib.sha256(content).hexdigest()


def _content_of(place: Path | str) -> bytes | None:
    """Return the content of a file, or of an environment variable; ``None`` if there is none."""
    try:
        return os.environb.get(place.encode()) if isinstance(place, str) else read_file(place)
    except OSError:
        return None


def _key(settings: Settings) -> bytes:
    """Return the key of the fleet, else that of this server; empty if there is none."""
    if settings.fleet_key is not None:
        return settings.fleet_key.get_secret_value().encode()
    try:
        return read_own(settings.state_dir / KEY_NAME, 4096)
    except OSError:
        return b""


def own_token(settings: Settings) -> str:
    """Return a token that only those have who may read the keys of this server; empty without."""
    key = _key(settings)
    return hmac.digest(key, b"admin listener", "sha256").hex() if key else ""


def prepare_state_dir(settings: Settings) -> str:
    """Create the state folder, and the key of this server in it.

    Return why nothing can be kept in it, or an empty text.
    """
    folder = settings.state_dir
    key = folder / KEY_NAME
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        # It may be in a repository, and has copies of tables with PINs.
        write_own(folder / ".gitignore", b"*\n")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with suppress(FileExistsError), os.fdopen(open_own(key, flags), "wb") as file:
            file.write(random.token_hex(32).encode())
    except OSError as error:
        return f"nothing is kept: {error.filename or folder}: {error.strerror}"
    return ""
