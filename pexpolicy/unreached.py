"""Why there is no connection to a place, or none can be listened for at it, in words."""

from __future__ import annotations

import errno
import os
import socket
import ssl

SHUT = (
    "it closed the connection: there is no TLS, it wants a client certificate, "
    "or this address is not in its [access] networks"
)
"""What it means when a peer closes before TLS is spoken."""
_MEANINGS: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "the name is not known"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted"),
    (ssl.SSLEOFError, SHUT),
    (ssl.SSLError, "it does not speak TLS, or not with this client"),
    (TimeoutError, "no answer in time"),
    (ConnectionRefusedError, "nobody listens there"),
    (ConnectionError, "it closed the connection"),
)
"""By the first class that an error belongs to."""
_LISTENING = {
    errno.EADDRNOTAVAIL: "it is no address of this machine",
    errno.EACCES: "this user may not; ports below 1024 need CAP_NET_BIND_SERVICE",
}


def why(error: BaseException) -> str:
    """What an error of the network means for whoever chose the address."""
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return "the name cannot be looked up at the moment"
    for kind, meaning in _MEANINGS:
        if isinstance(error, kind):
            detail = getattr(error, "verify_message", "")
            return f"{meaning}: {detail}" if detail else meaning
    if isinstance(error, OSError) and error.errno in _LISTENING:
        return _LISTENING[error.errno]
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(str(error).split()) or type(error).__name__
