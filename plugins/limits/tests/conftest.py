"""Two servers with the plugin, which share one PostgreSQL, or the SQLite of two workers."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.config.loader import from_document
from pexpolicy.policy import BuildContext
from tests.support import installed, postgresql
from tests.support.limited import TENANTS, Servers


@pytest.fixture
def start(
    engine: postgresql.Server | None, shared: dict[str, Any], tmp_path: Path
) -> Callable[..., Any]:
    """Returns a context with two servers that have these limits of acme, and other settings."""
    (tmp_path / "state").mkdir()

    def execute(sql: str) -> None:
        if engine is not None:
            engine.execute(sql)
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
        async with installed.serving_twice(checked, BuildContext()) as policies:
            yield Servers(policies, execute)

    return started
