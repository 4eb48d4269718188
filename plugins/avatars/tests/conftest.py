"""The plugin in a policy, a folder of pictures, and a stand-in for Microsoft Graph."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.testing import make_policy
from pexpolicy_avatars import Avatars
from tests.support.avatars import SECRET, Asker, GraphServer, Serving


@pytest.fixture
def serving() -> Serving:
    """Opens the plugin with these settings; `table` is the rest of its table."""

    @asynccontextmanager
    async def opened(table: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[Asker]:
        config = {"plugins": {"avatars": table or {"timeout": 3.0}}}
        policy = make_policy((Avatars, settings), config=config)
        async with policy.serving():
            yield Asker(policy)

    return opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pictures"
    made.mkdir()
    return made


@pytest.fixture
async def graph(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GraphServer]:
    monkeypatch.setenv("GRAPH_SECRET", SECRET)
    server = GraphServer()
    async with server.serving():
        yield server
