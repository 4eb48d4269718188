"""Two servers with the plugin, which share one PostgreSQL, or the SQLite of two workers."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.policy import BuildContext
from tests.support import installed, postgresql
from tests.support.limited import TENANTS, Servers


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgresql.Server]:
    with postgresql.Server.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Returns a context with two servers that have these limits of acme, and other settings."""
    (tmp_path / "state").mkdir()
    shared: dict[str, Any] = {}
    if request.param == "postgresql":
        server: postgresql.Server = request.getfixturevalue("postgres")
        server.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        (tmp_path / "password").write_text(postgresql.PASSWORD)
        shared = {"driver": "postgresql", "url": server.url, "password_file": "password"}

    def execute(sql: str) -> None:
        if request.param == "postgresql":
            server.execute(sql)
        else:
            path = tmp_path / "state" / "shared.sqlite"
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute(sql)

    @asynccontextmanager
    async def started(
        acme: dict[str, Any], plugins: dict[str, Any] | None = None, **settings: Any
    ) -> AsyncIterator[Servers]:
        limits = {"settings": {"tenants": {"acme": acme}, **settings}, "on_error": "reject"}
        document = {
            "tenants": TENANTS,
            "shared": {"timeout": 4.5, **shared},
            "plugins": {**(plugins or {}), "limits": limits},
        }
        checked = from_document(document, tmp_path / "config.toml")
        available = installed.plugins()
        policies = [
            build_policy(checked, available=available, context=BuildContext()) for _ in range(2)
        ]
        async with AsyncExitStack() as stack:
            for policy in policies:
                await stack.enter_async_context(policy.serving(in_server=True))
            yield Servers(policies, execute)

    return started
