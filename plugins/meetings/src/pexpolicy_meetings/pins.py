"""PINs: made at random, and encrypted where they are stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from pexpolicy import SettingsError
from pexpolicy.background.shared_state import SharedState
from pexpolicy.config.files import read_file, write_own
from pexpolicy_meetings.meeting import DAY_S

KEY_FILE = "meetings.key"
"""In the state folder."""
LENGTH = 6
"""Digits of a PIN that is made, unless the other one has more or less."""
NONCE = 12
_DATES = ("%d%m", "%m%d", "%Y", "%d%m%y", "%m%d%y", "%y%m%d", "%d%m%Y", "%m%d%Y", "%Y%m%d")


class WrongKeyError(Exception):
    """The PINs in the database were encrypted with another key."""


class Pins:
    """Encrypts PINs with a key, which is there once it is open."""

    def __init__(self, key: SecretStr | None) -> None:
        self._given = key
        self._key = b""
        self._cipher: AESGCM

    def open(self, state: SharedState) -> None:
        """Read the key; without one in the settings, make it in the state folder of SQLite.

        Raises ``SettingsError`` without a key for a database that servers share.
        """
        if self._given is not None:
            secret = self._given.get_secret_value()
        elif state.is_remote:
            text = "is missing: servers that share a database need one"
            raise SettingsError(text, key="key_file")
        elif state.folder is None or (state.is_dry and not (state.folder / KEY_FILE).exists()):
            secret = secrets.token_hex(32)
        else:
            secret = _made_once(state.folder / KEY_FILE)
        self._key = hashlib.sha256(b"pexpolicy meetings\n" + secret.strip().encode()).digest()
        self._cipher = AESGCM(self._key)

    def seal(self, pin: str, about: str) -> str:
        """Return a PIN encrypted, so that only ``unseal`` with the same ``about`` returns it."""
        nonce = secrets.token_bytes(NONCE)
        sealed = self._cipher.encrypt(nonce, pin.encode(), about.encode())
        return base64.b64encode(nonce + sealed).decode()

    def unseal(self, sealed: str, about: str) -> str:
        """Return a PIN; raises ``WrongKeyError``."""
        try:
            data = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(data[:NONCE], data[NONCE:], about.encode()).decode()
        except (InvalidTag, ValueError):
            text = "the PINs in the database were encrypted with another key"
            raise WrongKeyError(text) from None

    def digest(self, text: str) -> str:
        """Return a digest that nobody without the key can compare with guesses."""
        return hmac.new(self._key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def unknown_pin(self, about: str, other: str) -> str:
        """Return a PIN that nobody is told, the same one each time, and not ``other``."""
        size = 10 ** len(other)
        number = int(self.digest(f"unknown\n{about}"), 16) % size
        return str(number if number != int(other) else (number + 1) % size).zfill(len(other))


def made_pin(length: int, *, other: str, aliases: Iterable[str], days: tuple[float, float]) -> str:
    """Return a random PIN that is neither the other one, a part of an alias nor a date.

    ``days`` are start and end of the meeting, in seconds since 1970.
    """
    users = [alias.partition("@")[0] for alias in aliases]
    dates = frozenset().union(*(_dates(int(seconds // DAY_S)) for seconds in days))
    while True:
        pin = str(secrets.randbelow(10**length)).zfill(length)
        if pin != other and pin not in dates and not any(pin in user for user in users):
            return pin


@lru_cache(100)
def _dates(day: int) -> frozenset[str]:
    """Return how people write a day since 1970, in any time zone."""
    near = (datetime.fromtimestamp(one * DAY_S, UTC) for one in (day - 1, day, day + 1))
    return frozenset(one.strftime(form) for one in near for form in _DATES)


def _made_once(path: Path) -> str:
    """Return the content of a file, which is made if there is none; workers do so at a time."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        write_own(draft, secrets.token_hex(32).encode(), sync=True)
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return read_file(path).decode()
