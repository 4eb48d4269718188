"""A server that is frozen and killed while a source asks it."""

import asyncio
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol

import pytest

from pexpolicy_sources import Lookup, SourceUnavailableError
from tests.support.waiting import HANG_S


class Server(Protocol):
    """A server in a process."""

    def frozen(self) -> AbstractContextManager[object]:
        """Stop its processes."""

    def kill(self) -> None:
        """End its processes at once."""

    def start(self) -> None:
        """Start it again with its data."""


async def stale_while_down(server: Server, lookup: Lookup[Any], alias: str) -> None:
    """Assert that a lookup, which refreshes each answer, has old ones in an outage, and new ones
    after it.
    """

    async def age() -> float:
        found = await lookup.ask(alias=alias)
        assert found.rows
        return found.age

    async def recovers() -> None:
        async with asyncio.timeout(HANG_S):
            while await age() > 0.0:  # noqa: ASYNC110 - it recovers when it is asked
                await asyncio.sleep(0.1)

    # The first answer may be late on a busy machine.
    async with asyncio.timeout(HANG_S):
        while not len(lookup):
            with suppress(SourceUnavailableError):
                await age()
    with server.frozen():
        assert min([await age() for _ in range(6)]) > 0.0
        with pytest.raises(SourceUnavailableError):
            await lookup.ask(alias="never asked before")
    await recovers()
    server.kill()
    try:
        assert min([await age() for _ in range(6)]) > 0.0
    finally:
        server.start()
    await recovers()
    assert lookup.problem == ""
