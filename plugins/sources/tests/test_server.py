"""A server with the plugin of the README: by key from a database, and from a file that changes."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from tests.support import doc_pages, live_server, paths, wire

README = paths.ROOT / "plugins" / "sources" / "README.md"
HEAD = 'plugin_dirs = ["."]\n[audit]\npath = "audit.jsonl"\n'
ASK = f"{wire.REGISTRATION}Clinic@Example.com?protocol=sip"


def configured(folder: Path) -> Path:
    """Write the example of the README, with its database."""
    (folder / "desks.py").write_text(doc_pages.block(README, "python"))
    with closing(sqlite3.connect(folder / "devices.sqlite")) as database, database:
        database.execute("CREATE TABLE devices (alias, username, password)")
        row = ("Clinic@Example.com", "clinic", "canary-of-a-device")
        database.execute("INSERT INTO devices VALUES (?, ?, ?)", row)
    config = folder / "config.toml"
    config.write_text(HEAD + doc_pages.block(README, "toml"))
    return config


def test_the_example_answers_from_the_database_with_the_age_in_the_audit(tmp_path: Path) -> None:
    config = configured(tmp_path)
    with live_server.running(config) as server:
        answer = server.ask(ASK).json
        assert answer["result"]["username"] == "clinic"
        assert server.ask(f"{wire.REGISTRATION}nobody").json["result"] == {}
        (tmp_path / "devices.sqlite").unlink()
        assert server.ask(ASK).json["result"]["password"] == "canary-of-a-device"
        line = server.lines()[0]
        assert line["annotations"] == {"desks": {"source_age": 0.0}}
        status = server.operator("/status").body.decode()
        metrics = server.operator("/metrics").body.decode()
        audit = server.audit.read_text()
    assert "canary" not in audit + status + metrics


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    config = configured(tmp_path)
    file = tmp_path / "devices.csv"
    file.write_text("alias,username,password\nclinic@example.com,before,pw\n")
    text = config.read_text().replace('driver = "sql"\npath = "devices.sqlite"', FILE)
    config.write_text(text.replace(doc_pages.block(README, "toml").splitlines()[-1], QUERY))
    with live_server.running(config) as server:
        assert server.ask(ASK).json["result"]["username"] == "before"
        file.write_text("alias,username,password\nclinic@example.com,afterwards,pw\n")
        deadline = time.monotonic() + 10
        while server.ask(ASK).json["result"]["username"] != "afterwards":
            assert time.monotonic() < deadline
            time.sleep(0.1)


FILE = 'driver = "file"\npath = "devices.csv"'
QUERY = 'query = "alias = :alias"'
