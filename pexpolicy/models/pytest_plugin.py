"""pytest plugin that starts servers.

pytest loads it wherever pexpolicy is installed, so it imports nothing of the package before a test
asks for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from importlib import import_module
from typing import Any

import pytest


@pytest.fixture
def pexpolicy_server() -> Iterator[Callable[..., Any]]:
    """Return a function that starts a server and returns its URLs, for tests without ``async``.

    It takes what ``pexpolicy.testing.server`` takes; the servers stop at the end of the test.
    """
    server, servers = import_module("pexpolicy.testing").server, AsyncExitStack()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def start(*subject: Any, **options: Any) -> Any:
        opening = servers.enter_async_context(server(*subject, **options))
        return asyncio.run_coroutine_threadsafe(opening, loop).result()

    try:
        yield start
        asyncio.run_coroutine_threadsafe(servers.aclose(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
