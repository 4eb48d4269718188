"""The latency of a server as its loopback interface shows it, whenever the client gets to run.

A load generator that shares its processor with a browser also measures how long it waits for the
browser. The kernel stamps each packet at the moment at which it is sent, a request by the client
and a reply by the server, so the time between them is that of the server alone.
"""

import ctypes
import os
import socket
import struct
import threading
from collections import deque
from statistics import quantiles
from typing import Self

_ALL, _EVERY_FIELD = 0x0003, 64
"""Packets of any protocol, as only they are shown when they are sent, and the bytes of headers."""
_BUFFER = 1 << 26
_POLL_S = 0.2
# linux/if_packet.h, asm-generic/socket.h and linux/filter.h; Python does not name them.
_OUTGOING = 4
_SO_TIMESTAMPNS, _SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 35, 26, 33
_LOAD_BYTE, _LOAD_HALF_AT_X, _X_IS_HEADER_SIZE = 0x30, 0x48, 0xB1
_LOAD_WORD, _IS_EQUAL, _RETURN = 0x20, 0x15, 0x06
_PACKET_KIND = 0xFFFFF004
_TCP = 6


class WireLatency:
    """The calls to a port of this machine meanwhile. Raises ``PermissionError`` for other users
    than root.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        self._filter = _filter(port)
        program = struct.pack("HL", len(self._filter) // 8, ctypes.addressof(self._filter))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.settimeout(_POLL_S)
        self._packets: deque[tuple[int, bytes]] = deque()
        self._is_ended = threading.Event()
        self._thread = threading.Thread(target=self._read, name="wire")

    def __enter__(self) -> Self:
        self._socket.bind(("lo", _ALL))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ended.set()
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        space = socket.CMSG_SPACE(struct.calcsize("ll"))
        while True:
            try:
                packet, ancillary, _, _ = self._socket.recvmsg(_EVERY_FIELD, space)
            except TimeoutError:
                if self._is_ended.is_set():
                    return
                continue
            seconds, nanoseconds = struct.unpack("ll", ancillary[0][2])
            self._packets.append((seconds * 10**9 + nanoseconds, packet))

    def latencies_ms(self) -> list[float]:
        """Return the time from each request to the first packet of its reply."""
        asked: dict[int, int] = {}
        found = []
        for at, packet in self._packets:
            size, start = struct.unpack_from("!H", packet, 2)[0], (packet[0] & 15) * 4
            source, target = struct.unpack_from("!HH", packet, start)
            if size <= start + (packet[start + 12] >> 4) * 4:
                continue  # it only acknowledges others
            if target == self._port:
                asked[source] = at
            elif (since := asked.pop(target, None)) is not None:
                found.append((at - since) / 1e6)
        return found


def p99(values: list[float]) -> float:
    """Return the 99th percentile of at least two values."""
    return quantiles(values, n=100)[98]


def is_allowed() -> bool:
    """Return whether this user may look at packets."""
    return os.geteuid() == 0


def _filter(port: int) -> "ctypes.Array[ctypes.c_char]":
    """Return a socket filter for what is sent from or to a TCP port, once for each packet: the
    loopback interface shows it again where it arrives.
    """
    steps = (
        (_LOAD_BYTE, 0, 0, 9),
        (_IS_EQUAL, 0, 8, _TCP),
        (_X_IS_HEADER_SIZE, 0, 0, 0),
        (_LOAD_HALF_AT_X, 0, 0, 0),
        (_IS_EQUAL, 2, 0, port),
        (_LOAD_HALF_AT_X, 0, 0, 2),
        (_IS_EQUAL, 0, 3, port),
        (_LOAD_WORD, 0, 0, _PACKET_KIND),
        (_IS_EQUAL, 0, 1, _OUTGOING),
        (_RETURN, 0, 0, _EVERY_FIELD),
        (_RETURN, 0, 0, 0),
    )
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    return ctypes.create_string_buffer(code, len(code))
