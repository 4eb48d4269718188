"""The token of the listener for operators, and the names that it may be asked by without one."""

from __future__ import annotations

import hmac
import ipaddress


def admits(token: str, header: str | None) -> bool:
    """True when an ``Authorization`` header holds the token, as RFC 6750 sends it.

    The comparison takes as long for any token of its length.
    """
    scheme, _, given = (header or "").partition(" ")
    sent = given.strip().encode("utf-8", "surrogateescape")
    return scheme.lower() == "bearer" and hmac.compare_digest(sent, token.encode())


def is_own_host(header: str | None, configured: str) -> bool:
    """True for a ``Host`` header that no page of another site can have a browser send.

    Such a page may have its own name lead to this address (DNS rebinding), but the browser still
    sends that name. Addresses, ``localhost`` and the configured name are nobody else's.
    """
    if not header:
        return True  # no browser leaves it out
    name = header.rpartition("]")[0].removeprefix("[") or header.partition(":")[0]
    if name.lower() in ("localhost", configured.lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
