"""Texts of a script without the secrets that it was given."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pexpolicy import Request
from pexpolicy.endpoints.base import PROTECTIONS
from pexpolicy.models.request import secrets_of
from pexpolicy.text import brief
from pexpolicy_local_policy.variables import ScriptInput

HIDDEN = "***"
_FEWEST = 2
"""Characters at the end of a cut text that may be the beginning of a secret."""
_CUT = re.compile(r"['\"]?…|\Z")
_DIGIT = re.compile(r"\d")


def masked(text: str, request: Request, found: ScriptInput) -> str:
    """Return a text without PINs and passwords of the call and of its service."""
    secrets = {*secrets_of(request), *given_secrets(found)}
    text = without(text, secrets)
    shown: list[str] = []
    at = 0
    for cut in _CUT.finditer(text):
        part = text[at : cut.start()]
        begun = max((_begun(part, secret) for secret in secrets), default=0)
        shown += (part[: len(part) - begun], HIDDEN if begun else "", cut[0])
        at = cut.end()
    return "".join(shown)


def _begun(part: str, secret: str) -> int:
    """Return how many characters at the end of a cut text are the beginning of a secret.

    Callers send secrets of thousands of characters, so no pattern is compiled for each beginning.
    """
    longest = min(len(part), len(secret) - 1)
    lengths = range(longest, _FEWEST - 1, -1)
    return next((length for length in lengths if secret.startswith(part[-length:])), 0)


def without(text: str, secrets: Iterable[str]) -> str:
    """Return a text with ``***`` for each of these secrets."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def given_secrets(found: ScriptInput) -> set[str]:
    """Return the PINs and passwords among the variables of a script."""
    service = found.service_config or {}
    values = [service.get(name) for name in PROTECTIONS]
    values.append(found.call_info.get("third_party_passcode"))
    return {str(value) for value in values if value is not None and str(value)}


def covered(text: str, secrets: Iterable[str] = ()) -> str:
    """Return an output of the same length without secrets and digits, which may be those of a PIN.

    Cover the whole text before you cut an excerpt of it: a part of a secret is not recognized.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "*" * len(secret))
    return _DIGIT.sub("*", text)


def covered_value(value: Any, secrets: Iterable[str] = ()) -> str:
    """Return a value of an output on a short line, without secrets and digits."""
    if isinstance(value, str):
        return brief(covered(value, secrets))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "a number" if is_number else brief(value)
