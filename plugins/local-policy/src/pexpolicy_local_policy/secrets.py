"""Texts of a script without the secrets that it was given."""

from __future__ import annotations

from pexpolicy import PROTECTIONS, Request
from pexpolicy_local_policy.variables import ScriptInput

HIDDEN = "***"


def masked(text: str, request: Request, found: ScriptInput) -> str:
    """Return a text without PINs and passwords of the call and of its service."""
    given = found.service_config or {}
    for secret in (*request.secrets(), *(given.get(name) for name in PROTECTIONS)):
        if isinstance(secret, str) and secret:
            text = text.replace(secret, HIDDEN)
    return text
