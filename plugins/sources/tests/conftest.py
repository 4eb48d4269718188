"""Databases with the same table of rooms, and a directory with people."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support import postgresql, slapd

ROOMS = """
CREATE TABLE rooms (alias text PRIMARY KEY, name text NOT NULL, pin text);
INSERT INTO rooms VALUES ('clinic@example.com', 'Clinic', '0482'), ('board', 'Board', NULL);
"""

CROWD = 450
PICTURE = bytes(range(256))
PEOPLE: dict[str, dict[str, Any]] = {
    "anna": {"cn": "Anna", "mail": "Clinic@Example.com", "employeeNumber": "0482"},
    "bob": {"cn": ["Bob", "Robert"], "mail": ["bob@example.com", "b@example.com"]},
    "stars": {"cn": "*", "mail": "*"},
    "odd": {"cn": "a)(b\\c", "mail": "(odd)\\"},
    "photo": {"cn": "Photo", "mail": "photo", "thumbnailPhoto": b"GIF89a", "jpegPhoto": PICTURE},
}
"""In none of the entries but ``stars`` and ``odd`` has a value a character of a filter."""


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


@pytest.fixture(scope="session")
def directory() -> Iterator[slapd.Server]:
    """A server with some people, and more of them one level below than it returns at once."""
    unit = f"ou=crowd,{slapd.BASE}"
    entries = {
        unit: {"objectClass": "organizationalUnit", "ou": "crowd"},
        **{f"uid={uid},{slapd.BASE}": slapd.person(uid, **PEOPLE[uid]) for uid in PEOPLE},
        **{f"uid=c{n},{unit}": slapd.person(f"c{n}") for n in range(CROWD)},
    }
    with slapd.Server.running(entries) as server:
        yield server
