"""Telling systemd what a server is doing, by the protocol of ``sd_notify``.

Without ``NOTIFY_SOCKET`` in the environment nothing is sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from pexpolicy.tasks import hide

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


def reloading() -> str:
    """That a reload begins now; ``READY`` ends it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def notify(message: str) -> None:
    """Send one message; without a receiver it is lost, which is no reason to stop."""
    address = os.environ.get("NOTIFY_SOCKET", "")
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


@asynccontextmanager
async def alive() -> AsyncIterator[None]:
    """Give signs of life from the event loop while inside, for as long as it turns."""
    beating = asyncio.get_running_loop().create_task(_beat())
    hide(beating)
    try:
        yield
    finally:
        beating.cancel()


async def _beat() -> None:
    pause = watchdog_pause()
    while pause:
        notify(ALIVE)
        await asyncio.sleep(pause)
