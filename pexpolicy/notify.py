"""Telling systemd what a server is doing, by the protocol of ``sd_notify``.

Without ``NOTIFY_SOCKET`` in the environment nothing is sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import suppress

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


def reloading() -> str:
    """That a reload begins now; ``READY`` ends it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def notify(message: str, address: str | None = None) -> None:
    """Send one message, to the address in the environment unless there is another. That nobody
    listens is no reason to stop.
    """
    address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)  # noqa: FBT003 - it takes no keyword
        sender.connect(address)
        sender.send(message.encode())


def watchdog_pause() -> float | None:
    """Seconds between two signs of life: half of what systemd allows; ``None`` where it asks for
    none.
    """
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(os.environ["WATCHDOG_USEC"]) / 2_000_000
    except (KeyError, ValueError):
        return None


async def stay_alive() -> None:
    """Give signs of life from the event loop for as long as it turns."""
    pause = watchdog_pause()
    while pause:
        notify(ALIVE)
        await asyncio.sleep(pause)
