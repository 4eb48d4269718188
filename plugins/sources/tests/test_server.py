"""A server with the plugin of the README: by key from a database, and from a file that changes."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.support import doc_pages, live_server, paths, programs, secret_canaries, slapd, wire
from tests.support.waiting import wait_until

README = paths.ROOT / "plugins" / "sources" / "README.md"
HEAD = 'plugin_dirs = ["."]\n[audit]\npath = "audit.jsonl"\n'
ASK = f"{wire.REGISTRATION}Clinic@Example.com?protocol=sip"


def example(driver: str) -> str:
    """Return the configuration in the README with a driver."""
    return next(
        text
        for language, text in doc_pages.blocks(README)
        if language == "toml" and f'driver = "{driver}"' in text
    )


def configured(folder: Path) -> Path:
    """Write the example of the README, with its database."""
    (folder / "desks.py").write_text(doc_pages.block(README, "python"))
    with closing(sqlite3.connect(folder / "devices.sqlite")) as database, database:
        database.execute("CREATE TABLE devices (alias, username, password)")
        row = ("Clinic@Example.com", "clinic", "canary-of-a-device")
        database.execute("INSERT INTO devices VALUES (?, ?, ?)", row)
    config = folder / "config.toml"
    config.write_text(HEAD + example("sql"))
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
    config.write_text(text.replace(example("sql").splitlines()[-1], QUERY))
    with live_server.running(config) as server:
        assert server.ask(ASK).json["result"]["username"] == "before"
        file.write_text("alias,username,password\nclinic@example.com,afterwards,pw\n")
        wait_until(lambda: server.ask(ASK).json["result"]["username"] == "afterwards")


@programs.needs_compiled("python-ldap")
def test_an_ldap_server_that_freezes_leaves_stale_answers_and_its_password_is_in_no_output(
    tmp_path: Path, directory: slapd.Server
) -> None:
    (tmp_path / "desks.py").write_text(doc_pages.block(README, "python"))
    written = example("ldap")
    for was, becomes in (
        ("ldap1.example.com", directory.secure_url.removeprefix("ldaps://")),
        ("ldaps://ldap2.example.com", directory.url),
        ("ou=people,dc=example,dc=com", slapd.BASE),
        ("cn=pexpolicy,dc=example,dc=com", slapd.USER),
        ('_PASSWORD"', f'_PASSWORD"\nca_file = "{directory.ca_file}"\nrefresh_after = 0'),
    ):
        assert was in written
        written = written.replace(was, becomes)
    config = tmp_path / "config.toml"
    config.write_text(HEAD + written)
    with live_server.running(config, environment={"LDAP_PASSWORD": slapd.PASSWORD}) as server:
        known = {"username": "anna", "password": "0482"}
        assert server.ask(ASK).json["result"] == known
        assert server.ask(f"{wire.REGISTRATION}nobody").json["result"] == {}
        with directory.frozen():
            assert server.ask(ASK).json["result"] == known
            server.ask(f"{wire.REGISTRATION}somebody")
        status = server.operator("/status").body.decode()
        metrics = server.operator("/metrics").body.decode()
        ages = [line["annotations"]["desks"]["source_age"] for line in server.lines()[:3]]
        failed = server.lines()[3]["steps"]
    assert ages[:2] == [0.0, 0.0]
    assert ages[2] > 0.0
    assert "no answer within" in str(failed)
    assert not secret_canaries.find_canaries(status + metrics)


FILE = 'driver = "file"\npath = "devices.csv"'
QUERY = 'query = "alias = :alias"'
