"""A database of each kind, and policies of the plugin that ask it."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support import postgresql


@pytest.fixture(params=["sqlite", "postgresql"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The keys of ``[sources.db]`` for an empty database of each kind."""
    if request.param == "sqlite":
        path = tmp_path / "company.sqlite"
        sqlite3.connect(path).close()
        return {"driver": "sql", "timeout": 5.0, "path": str(path)}
    server: postgresql.Server = request.getfixturevalue("empty_postgres")
    secret = str(server.folder / "password")
    return {"driver": "sql", "timeout": 5.0, "url": server.url, "password_file": secret}


@pytest.fixture
def execute(source: dict[str, Any], request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Run statements in the database."""
    if "path" not in source:
        server: postgresql.Server = request.getfixturevalue("postgres")
        return server.execute

    def run(statements: str) -> None:
        with closing(sqlite3.connect(source["path"])) as database, database:
            database.executescript(statements)

    return run
