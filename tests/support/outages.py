"""A server that is frozen and killed while a source asks it."""

from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol

import pytest

from pexpolicy_sources import Lookup, SourceUnavailableError
from tests.support.waiting import until


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

    async def is_fresh() -> bool:
        # On a busy machine an answer may be late.
        with suppress(SourceUnavailableError):
            return await age() == 0.0
        return False

    await until(is_fresh)
    with server.frozen():
        assert min([await age() for _ in range(6)]) > 0.0
        with pytest.raises(SourceUnavailableError):
            await lookup.ask(alias="never asked before")
    await until(is_fresh)
    server.kill()
    try:
        assert min([await age() for _ in range(6)]) > 0.0
    finally:
        server.start()
    await until(is_fresh)
    assert lookup.problem == ""
