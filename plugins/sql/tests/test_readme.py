"""The README: its example of a room by key, as a reader pastes it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.support import forked, paths

PAGE = (paths.ROOT / "plugins" / "sql" / "README.md").read_text()
TABLES = """
CREATE TABLE rooms (name PRIMARY KEY, service_type, pin, guest_pin, allow_guests, valid_from,
    valid_until);
CREATE TABLE room_aliases (alias PRIMARY KEY, room);
INSERT INTO rooms VALUES ('Clinic', 'conference', '0482', NULL, 0, NULL, NULL),
    ('Old', 'conference', NULL, NULL, NULL, NULL, '2020-01-01');
INSERT INTO room_aliases VALUES ('clinic@example.com', 'Clinic'), ('old', 'Old');
"""


def test_the_example_of_a_room_by_key_works_as_pasted(tmp_path: Path) -> None:
    first, by_key = (part.partition("\n```")[0] for part in PAGE.split("```toml\n")[1:])
    (tmp_path / "config.toml").write_text(first[: first.index("[plugins")] + by_key)
    with closing(sqlite3.connect(tmp_path / "company.sqlite")) as database, database:
        database.executescript(TABLES)

    def run(*arguments: str) -> str:
        done = forked.run(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "valid" in run("check")
    request = "/policy/v1/service/configuration?local_alias="
    assert '"name":"Clinic"' in run("explain", f"{request}sip%3Aclinic@example.com")
    assert '"decided_by":"default"' in run("explain", f"{request}old")
