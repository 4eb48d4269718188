"""The token that whoever asks for status and metrics has to send."""

from __future__ import annotations

import hmac


def admits(token: str, header: str | None) -> bool:
    """True when an ``Authorization`` header holds the token, as RFC 6750 sends it.

    The comparison takes as long for any token of its length.
    """
    scheme, _, given = (header or "").partition(" ")
    sent = given.strip().encode("utf-8", "surrogateescape")
    return scheme.lower() == "bearer" and hmac.compare_digest(sent, token.encode())
