"""TCP sockets that cost less to accept."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING


class TcpSocket(socket.socket):
    """A socket whose ``family`` and ``type`` are numbers.

    ``socket.socket`` looks up a member of an enumeration whenever one of them is read: five times
    for each accepted connection, which is a fifth of the cost of accepting it.

    A socket becomes one by assigning this class to its ``__class__``: ``accept`` always returns a
    plain socket, and another object for the same descriptor would cost more than is gained.
    """

    __slots__ = ()

    if not TYPE_CHECKING:
        family = socket.SocketType.family
        type = socket.SocketType.type
