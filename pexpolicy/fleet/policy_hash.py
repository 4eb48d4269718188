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
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pexpolicy.config.files import Tracked, read_file
from pexpolicy.config.settings import Settings

KEY_NAME = "policy-hash.key"
"""The key that a server makes for itself in its state folder. Hashes of servers with keys of their
own cannot be compared where plugins have secrets."""


def policy_hash(settings: Settings, tracked: Tracked, versions: Iterable[str]) -> str:
    """Return the hash of a policy: 16 hexadecimal digits.

    Only the order of the files counts, not their names: the same files in another folder have the
    same hash. Without a key that can be read, secrets are left out. ``versions`` are those of the
    distributions that the policy uses.
    """
    digest = hashlib.sha256(settings.tables_digest)
    for version in sorted(set(versions)):
        digest.update(version.encode() + b"\0")
    for file in tracked.files:
        if file not in tracked.secrets:
            digest.update(_content_digest(file))
    if tracked.secrets and (key := _key(settings)):
        keyed = hmac.new(key, digestmod=hashlib.sha256)
        for place in tracked.secrets:
            keyed.update(_content_digest(place))
        digest.update(keyed.digest())
    return digest.hexdigest()[:16]


def _content_digest(place: Path | str) -> bytes:
    """Return the digest of the content of a file, or of an environment variable."""
    try:
        found = os.environb.get(place.encode(), b"") if isinstance(place, str) else read_file(place)
    except OSError:
        return b"unreadable"
    return hashlib.sha256(found).digest()


def _key(settings: Settings) -> bytes:
    """Return the key of the fleet, else that of this server; empty if there is none."""
    if settings.fleet_key is not None:
        return settings.fleet_key.get_secret_value().encode()
    try:
        return read_file(settings.state_dir / KEY_NAME)
    except OSError:
        return b""


def prepare_state_dir(settings: Settings) -> str:
    """Create the state folder, and the key of this server in it.

    Return why nothing can be kept in it, or an empty text.
    """
    folder = settings.state_dir
    key = folder / KEY_NAME
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileExistsError):
            descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(random.token_hex(32).encode())
    except OSError as error:
        return f"nothing is kept: {error.filename or folder}: {error.strerror}"
    return ""
