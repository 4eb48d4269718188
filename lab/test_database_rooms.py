"""The experiment on rooms in PostgreSQL, at a small size."""

import argparse
from pathlib import Path

from lab import database_rooms
from tests.support import postgresql


def test_rooms_by_key_and_as_a_snapshot(tmp_path: Path) -> None:
    given = argparse.Namespace(rooms=5_000, snapshot=1_000, calls=1_000)
    with postgresql.Server.running() as server:
        assert database_rooms.run(server, tmp_path, given)
