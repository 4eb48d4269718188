"""Notifications to systemd by the ``sd_notify`` protocol.

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
    """Return the message that announces a reload; ``READY`` ends it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def notify(message: str) -> None:
    """Send a message; ignore a missing receiver."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)  # noqa: FBT003 - positional only
        sender.connect(address)
        sender.send(message.encode())


def heartbeat_interval() -> float | None:
    """Return the seconds between heartbeats, half of what systemd allows; ``None``: send none."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(os.environ["WATCHDOG_USEC"]) / 2_000_000
    except (KeyError, ValueError):
        return None


@asynccontextmanager
async def heartbeat() -> AsyncIterator[None]:
    """Send heartbeats from the event loop until exit."""
    task = asyncio.get_running_loop().create_task(_send_heartbeats())
    hide(task)
    try:
        yield
    finally:
        task.cancel()


async def _send_heartbeats() -> None:
    interval = heartbeat_interval()
    while interval:
        notify(ALIVE)
        await asyncio.sleep(interval)
