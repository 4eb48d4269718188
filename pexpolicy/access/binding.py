"""Sockets that listen on an address."""

from __future__ import annotations

import socket
from contextlib import ExitStack

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted."""


def bind(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each address of ``host``; raises ``OSError``.

    Where the port is 0, all of them listen on the same free one.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as unwound:
        sockets: list[socket.socket] = []
        for family, *_, address in dict.fromkeys(found):
            taken = sockets[0].getsockname()[1] if sockets else port
            listener = unwound.enter_context(
                socket.create_server(
                    (address[0], taken, *address[2:]), family=family, backlog=BACKLOG
                )
            )
            listener.settimeout(0)
            sockets.append(listener)
        unwound.pop_all()
    return sockets
