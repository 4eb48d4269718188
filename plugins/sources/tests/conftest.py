"""Databases with the same table of rooms."""

import shutil
import sqlite3
import tempfile
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
    """A server for all tests; its socket needs a short path."""
    folder = Path(tempfile.mkdtemp(prefix="pexpolicy-pg-"))
    server = None
    try:
        server = postgresql.Server(folder)
        server.start()
        server.execute(ROOMS)
        yield server
    finally:
        if server is not None:
            server.kill()
        shutil.rmtree(folder)
