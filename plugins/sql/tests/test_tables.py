"""Tables for rooms, devices and people, made and filled in real databases."""

import asyncio
import codecs
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from click.testing import CliRunner, Result

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.testing import decide, make_policy, make_request
from pexpolicy_directory import PhoneBook
from pexpolicy_registrations import Registrations
from pexpolicy_rooms import Rooms
from pexpolicy_sources.sql_settings import SqlSettings
from pexpolicy_sql import SqlQueries
from pexpolicy_sql.command import sql
from pexpolicy_sql.database import writing
from pexpolicy_sql.tables import METADATA, ROOMS, VERSION_TABLE
from tests.support import postgresql, secret_canaries

ROOMS_CSV = """\
aliases;name;pin;guest_pin;allow_guests;participant_limit;service_type;valid_until;breakout_uuids
Clinic@Example.com 2301;Clinic;0482;170356;TRUE;30;;2030-12-24;
town-hall@example.com;Town hall;;;;;lecture;;
"""
DEVICES_CSV = """\
alias,username,password,protocols,sso
Desk@Example.com,desk,correct-horse,sip|h323,
anna@example.com,,,webrtc,true
"""
PEOPLE_CSV = """\
alias,name,username,keywords,groups
Anna@Example.com,Anna Berg,anna,reception,
bo@example.com,Bo Dahl,,,staff
"""


@pytest.fixture
def run(source: dict[str, Any], tmp_path: Path) -> Callable[..., Result]:
    """Run ``pexpolicy sql`` on the database."""
    config = tmp_path / "config.toml"
    config.write_text(tomlkit.dumps({"sources": {"db": source}}))

    def invoke(*arguments: str | Path) -> Result:
        command = [*map(str, arguments), "--config", str(config)]
        return CliRunner().invoke(sql, command, catch_exceptions=False)

    return invoke


Run = Callable[..., Result]


@pytest.fixture
def load(run: Run, tmp_path: Path) -> Callable[..., Result]:
    """Load a text as a CSV file."""
    assert run("upgrade").exit_code == 0

    def write_and_load(kind: str, text: str, *options: str) -> Result:
        file = tmp_path / f"{kind}.csv"
        file.write_text(text)
        return run("load", kind, file, *options)

    return write_and_load


def config_of(source: dict[str, Any], **plugins: dict[str, Any]) -> dict[str, Any]:
    tables = {
        name: {"settings": {"source": "db", **settings}} for name, settings in plugins.items()
    }
    return {"sources": {"db": source}, "plugins": tables}


async def ask(policy: Any, endpoint: str, **fields: Any) -> Any:
    return (await decide(policy, make_request(endpoint, **fields))).decision


def test_the_tables_are_made_once(run: Run) -> None:
    assert run("upgrade").output == "upgraded the tables, version 0001\n"
    assert run("upgrade").output == "the tables were up to date, version 0001\n"


async def test_migrations_and_tables_agree(run: Run, source: dict[str, Any]) -> None:
    await asyncio.to_thread(run, "upgrade")

    def differences(connection: Any) -> list[Any]:
        options = {"version_table": VERSION_TABLE}
        found: list[Any] = compare_metadata(
            MigrationContext.configure(connection, opts=options), METADATA
        )
        return found

    settings = {key: value for key, value in source.items() if key != "driver"}
    async with writing(SqlSettings.model_validate(settings)) as connection:
        assert await connection.run_sync(differences) == []


def test_each_field_of_a_service_has_a_column() -> None:
    fields = {name for kind in SERVICE_TYPES.values() for name in kind.hints}
    assert fields == set(ROOMS.columns.keys()) - {"valid_from", "valid_until"}


async def test_the_plugins_read_what_was_loaded(
    load: Callable[..., Result], source: dict[str, Any]
) -> None:
    for kind, text in (("rooms", ROOMS_CSV), ("devices", DEVICES_CSV), ("people", PEOPLE_CSV)):
        result = await asyncio.to_thread(load, kind, text)
        assert result.output.endswith(f"{kind}.csv: 2 loaded\n"), result.output
    config = config_of(
        source,
        rooms={"query": "SELECT * FROM room_list", "zone": "Europe/Oslo"},
        registrations={"query": "SELECT * FROM devices"},
        directory={"query": "SELECT * FROM people", "groups": {"staff": ["@example.com"]}},
    )
    plugins = {"rooms": Rooms, "registrations": Registrations, "directory": PhoneBook}
    policy = make_policy(plugins, config=config)
    async with policy.serving():
        clinic = await ask(policy, "service_configuration", local_alias="sip:clinic@example.com")
        assert clinic.set_fields() == {
            "name": "Clinic",
            "pin": "0482",
            "guest_pin": "170356",
            "allow_guests": True,
            "participant_limit": 30,
            "service_tag": "",
            "service_type": "conference",
        }
        assert await ask(policy, "service_configuration", local_alias="2301") == clinic
        fields = {"alias": "desk@example.com", "protocol": "sip", "auth_type": "credentials"}
        assert (await ask(policy, "registration_alias", **fields)).password == "correct-horse"
        fields = {"alias": "anna@example.com", "protocol": "webrtc", "auth_type": "sso"}
        assert (await ask(policy, "registration_alias", **fields)).action == "continue"
        found = await ask(
            policy, "directory_information", q="dahl", registration_alias="anna@example.com"
        )
        assert [entry.alias for entry in found.entries] == ["bo@example.com"]


async def test_a_room_is_asked_for_by_key(
    load: Callable[..., Result], source: dict[str, Any]
) -> None:
    await asyncio.to_thread(load, "rooms", ROOMS_CSV)
    query = """
        SELECT r.name, r.service_type, r.pin, r.guest_pin, r.allow_guests FROM rooms r
        JOIN room_aliases a ON a.room = r.name WHERE a.alias = :local_alias
    """
    policy = make_policy(
        {"sql": SqlQueries}, config=config_of(source, sql={"service_configuration": query})
    )
    async with policy.serving():
        clinic = await ask(policy, "service_configuration", local_alias="CLINIC@example.com")
        assert (clinic.name, clinic.allow_guests) == ("Clinic", True)
        hall = await ask(policy, "service_configuration", local_alias="town-hall@example.com")
        assert hall.set_fields()["service_type"] == "lecture"


def test_loading_again_updates_and_the_rest_stays(
    load: Callable[..., Result], execute: Callable[[str], None]
) -> None:
    load("rooms", ROOMS_CSV)
    # The alias 2301 is free, as its room gives it up before.
    changed = "aliases,name,pin\nclinic@example.com,Clinic,9999\n2301 x,New,\n"
    assert load("rooms", changed).output.endswith("rooms.csv: 2 loaded\n")
    taken = load("rooms", "aliases,name\nTown-Hall@example.com,Other\n")
    assert taken.exit_code == 65
    assert (
        "rooms.csv line 2: aliases: 'town-hall@example.com' belongs to the room 'Town hall'"
        in taken.output
    )
    # The file has all rooms: the alias is free.
    replaced = load("rooms", "aliases,name\ntown-hall@example.com,Other\n", "--replace")
    assert replaced.output.endswith("rooms.csv: 1 loaded, 3 deleted\n")
    refused = load("rooms", "aliases,name\nz,Z\n,None\n", "--replace")
    assert "nothing was changed, because 1 lines have errors" in refused.output
    assert load(
        "rooms", "aliases,name\nTown-hall@example.com,Other\n", "--replace"
    ).output.endswith("1 loaded, 0 deleted\n")


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("rooms", "aliases,name,pin\nx,X,12ab\n", "line 2: pin: must"),
        ("rooms", "aliases,name,allow_guests\nx,X,maybe\n", "line 2: allow_guests: "),
        ("rooms", "aliases,name,service_type\nx,X,lectur\n", "did you mean 'lecture'?"),
        ("rooms", "aliases,name,valid_until\nx,X,soon\n", "line 2: valid_until: expected a day"),
        ("rooms", "aliases,name\nx,X\ny,X\n", "line 3: the file has 'X' already"),
        ("rooms", "aliases,name\nx y,X\nY,Y\n", "line 3: aliases: 'y' belongs to the room 'X'"),
        ("rooms", "aliases,name\nsip:@x,X\n", "line 2: aliases: 'sip:@x' is not an alias"),
        ("rooms", "aliases,name,host_pin\nx,X,1\n", "did you mean 'pin'?"),
        ("devices", "alias,username\na@b,u\n", "line 2: password is missing"),
        ("devices", "alias,protocols\na@b,sip|scp\n", "line 2: protocols: 'scp' is not one of"),
        ("people", "alias,name\n@,A\n", "line 2: alias: is not an alias"),
        ("rooms", "aliases,name\na\0b,A\n", "line 2: holds a character that no database"),
        ("people", "alias,name\na\0b,A\n", "line 2: holds a character that no database"),
        ("people", "alias,name\na,A,b,c\n", "line 2: has 2 cells more than columns"),
    ],
)
def test_a_line_that_cannot_be_loaded_is_named(
    load: Callable[..., Result], kind: str, text: str, says: str
) -> None:
    result = load(kind, text)
    assert result.exit_code == 65
    assert says in result.output
    assert "12ab" not in result.output


def test_the_memory_of_loading_does_not_grow_with_the_file(
    run: Run, tmp_path: Path, source: dict[str, Any]
) -> None:
    if "url" in source:
        return  # the same in each database
    run("upgrade")
    # The ru_maxrss of a process is at least that of the process that started it.
    program = (
        "import re, sys; from pexpolicy_sql.command import sql\n"
        "try: sql(sys.argv[1:])\n"
        "finally: print(*re.findall(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read()))"
    )
    peaks = []
    for count in (1_000, 30_000):
        file = tmp_path / "people.csv"
        lines = (f"p{n}@example.com,Person {n},p{n},{'word ' * 30}\n" for n in range(count))
        file.write_text("alias,name,username,keywords\n" + "".join(lines))
        command = [sys.executable, "-c", program, "load", "people", str(file)]
        command += ["--config", str(tmp_path / "config.toml")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert f"{count:,} loaded" in done.stdout, done
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 16_000, "kilobytes"


def test_what_is_wrong_with_the_configuration_or_the_database_is_a_message(
    run: Run, tmp_path: Path
) -> None:
    other = run("upgrade", "--source", "bdb")
    assert other.exit_code == 78
    assert "did you mean 'db'?" in other.output
    missing = run("load", "people", Path(__file__))
    assert missing.exit_code in (65, 75)
    assert "Traceback" not in missing.output


def test_no_message_commands_the_terminal(run: Run, tmp_path: Path) -> None:
    unknown = run("upgrade", "--source", "d\x07b")
    file = tmp_path / "a\x07.csv"
    file.write_text("aliases,name,\x07\n")
    for result in (unknown, run("load", "rooms", file)):
        assert (result.exit_code != 0, "\x07" in result.output) == (True, False)
    assert "[sources.d\N{REPLACEMENT CHARACTER}b]" in unknown.output


def test_every_endpoint_is_a_setting() -> None:
    assert set(ENDPOINTS) == SqlQueries.Settings.model_fields.keys() - {"source"}


def test_no_secret_is_in_a_message(
    run: Run, load: Callable[..., Result], source: dict[str, Any], tmp_path: Path
) -> None:
    word = secret_canaries.WORD
    lines = f"alias,username,password\n@,u,{word}\na@b.org,,{word}\nc@d.org,u,{word * 20}\n"
    result = load("devices", lines)
    assert "password: takes 250 characters at most" in result.output
    assert word not in result.output
    pins = f"aliases,name,pin,allow_guests\nx,X,{secret_canaries.PIN}{'9' * 20},\n"
    assert secret_canaries.PIN not in load("rooms", pins).output
    if "url" in source:
        secret = tmp_path / "wrong.password"
        secret.write_text(f"{word} of nobody")
        result = run("upgrade", "--password-file", secret)
        assert result.exit_code == 75
        assert "password authentication failed" in result.output
        assert word not in result.output


def test_the_configuration_may_begin_with_a_byte_order_mark(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_bytes(codecs.BOM_UTF8 + config.read_bytes())
    assert run("upgrade").exit_code == 0


def test_another_user_owns_the_tables(
    postgres: postgresql.Server, run: Run, source: dict[str, Any], tmp_path: Path
) -> None:
    if "path" in source:
        result = run("upgrade", "--user", "owner")
        assert "a SQLite database has no users" in result.output
        return
    postgres.execute(
        "DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN PASSWORD 'of the reader'"
    )
    config = tmp_path / "config.toml"
    config.write_text(config.read_text().replace("//pexpolicy@", "//reader@"))
    owner = ("--user", "pexpolicy", "--password-file", source["password_file"])
    assert run("upgrade", *owner).exit_code == 0
    allowed = postgres.query("SELECT has_table_privilege('reader', 'room_list', 'SELECT')")
    assert allowed == "t"
    assert postgres.query("SELECT has_table_privilege('reader', 'rooms', 'INSERT')") == "f"
    postgres.execute("DROP OWNED BY reader; DROP ROLE reader")
