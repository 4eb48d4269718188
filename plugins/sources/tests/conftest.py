"""Databases with the same table of rooms."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import postgresql

ROOMS = """
CREATE TABLE rooms (alias text PRIMARY KEY, name text NOT NULL, pin text);
INSERT INTO rooms VALUES ('clinic@example.com', 'Clinic', '0482'), ('board', 'Board', NULL);
"""


@pytest.fixture
def sqlite(tmp_path: Path) -> Path:
    path = tmp_path / "rooms.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(ROOMS)
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgresql.Server]:
    """A server for all tests."""
    with postgresql.Server.running() as server:
        server.execute(ROOMS)
        yield server
