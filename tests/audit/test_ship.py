"""The audit in a database: what is copied there, verified, purged and kept until it is there."""

import itertools
import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner, Result

from pexpolicy.audit.database import Database, DatabaseUnavailable, Shipper
from pexpolicy.audit.hash_chain import HashChain
from pexpolicy.audit.reader import file_and_rotated
from pexpolicy.audit.rotation import Rotation, ShippedLines
from pexpolicy.cli.audit import audit
from pexpolicy.cli.status import status
from pexpolicy.config.loader import load
from tests.audit.places import Place, body, chained
from tests.support import live_server, postgresql, wire
from tests.support.waiting import wait_until

TIME = "2026-11-26T01:02:03.000004Z"


@pytest.fixture
def server(empty_postgres: postgresql.Server) -> postgresql.Server:
    return empty_postgres


@pytest.fixture
def config(tmp_path: Path, server: postgresql.Server) -> Path:
    """A configuration whose database is empty."""
    path = tmp_path / "config.toml"
    path.write_text(
        '[audit]\npath = "audit.jsonl"\ninstance = "policy-1"\n'
        f'[audit.ship]\nurl = "{server.url}"\npassword_file = "{server.folder}/password"\n'
    )
    return path


@pytest.fixture
def database(config: Path) -> Iterator[Database]:
    with Database(load(config)) as database:
        yield database


def ship(database: Database, folder: Path, instance: str = "policy-1") -> None:
    """Copy all lines of a folder, as a process does that was just started."""
    with closing(Shipper(database, folder / "audit.jsonl", instance)) as shipper:
        while shipper.step():
            pass


def stored(server: postgresql.Server) -> list[str]:
    return server.query("SELECT line FROM audit_lines ORDER BY time, boot_id, seq").splitlines()


def run(*arguments: str, config: Path) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(audit, [*arguments, "-c", str(config)])


def faults(config: Path) -> list[str]:
    """Return the faults in the database."""
    result = run("verify", "--from-database", "--json", config=config)
    *found, counts = map(json.loads, result.stdout.splitlines())
    assert result.exit_code == bool(found)
    assert counts["faults"] == len(found)
    return [f"{fault['place']}: {fault['text']}" for fault in found]


def test_each_line_is_stored_once(
    place: Place, database: Database, server: postgresql.Server, config: Path
) -> None:
    place.fill(range(3))
    with closing(Shipper(database, place.path, "policy-1")) as shipper:
        shipper.step()
        place.fill([3])
        place.path.rename(f"{place.path}.20261126T010203123456Z")
        place.clock.pass_by(2.0)
        place.fill([4, 5])
        while shipper.step():
            pass
    ship(database, place.folder)
    written = b"".join(path.read_bytes() for path in file_and_rotated(place.path))
    assert "\n".join(stored(server)).encode() == written.strip()
    assert faults(config) == []
    row = server.query("SELECT instance, seq, ended FROM audit_chains")
    assert row == "policy-1|6|f"


def test_blank_lines_alone_do_not_end_the_copying(place: Place, database: Database) -> None:
    place.path.write_bytes(b"  \n")
    with closing(Shipper(database, place.path, "policy-1")) as shipper:
        shipper.step()
        assert not shipper.step()


def test_a_line_that_another_writer_adds_to_the_old_file_is_stored_with_those_of_the_new_one(
    tmp_path: Path, database: Database, server: postgresql.Server
) -> None:
    path, first, second = tmp_path / "audit.jsonl", HashChain(), HashChain()
    path.write_bytes(chained(first, body(1)) + chained(second, body(2)))
    shipper = Shipper(database, path, "policy-1")
    shipper.step()
    old = path.rename(f"{path}.20261126T010203123456Z")
    path.write_bytes(chained(first, body(3)))
    late = chained(second, body(4))
    with path.open("ab") as file:
        # The shipper has seen the end of the old file when the new one is opened.
        opened = Path.open
        looks = itertools.count()

        def hooked(self: Path, *arguments: Any) -> Any:
            if self == path and next(looks) == 0:
                with opened(old, "ab") as other:
                    other.write(late)
                file.write(chained(second, body(5)))
                file.flush()
            return opened(self, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "open", hooked)
            shipper.step()
    shipper.close()
    assert sorted(json.loads(line)["n"] for line in stored(server)) == [1, 2, 3, 4, 5]


def test_damage_is_left_out_and_the_lines_around_it_are_stored(
    tmp_path: Path, database: Database, server: postgresql.Server, config: Path
) -> None:
    chain = HashChain()
    first, torn, last = (chained(chain, body(number)) for number in range(3))
    path = tmp_path / "audit.jsonl"
    path.write_bytes(first + b" " * 40 + b"\n" + torn[:60] + last + b"{}\n" + torn[:9])
    ship(database, tmp_path)
    assert [json.loads(line)["n"] for line in stored(server)] == [0, 2]
    assert faults(config) == [f"database: chain {chain.boot_id}: missing before this line: 2"]


NEWER = "INSERT INTO audit_chains VALUES ('b', '{}', 0, '', now(), false)"
LOST = "DELETE FROM audit_lines WHERE seq > 3"
OLD = "UPDATE audit_chains SET time = now() - interval '1 day'"
PENDING = "UPDATE audit_chains SET pending = true"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("SELECT 1", []),
        (LOST, ["its last 2 lines are missing: its server wrote line 5, and line 3 is the last"]),
        (f"{LOST}; {PENDING}", []),
        (f"{LOST}; {PENDING}; {OLD}", ["its last 2 lines are missing", "silent since"]),
        ("DELETE FROM audit_lines", ["its last 5 lines are missing"]),
        (OLD, ["silent since"]),
        (f"{OLD}, ended = true", []),
        (f"{OLD}; {NEWER.format('policy-1')}", []),
        (f"{OLD}; {NEWER.format('x')}", ["silent"]),
        ("DELETE FROM audit_lines WHERE seq = 2", ["missing before this line: 2"]),
        ("UPDATE audit_lines SET line = replace(line, '\"n\":4', '\"n\":8')", ["was changed"]),
        ("UPDATE audit_chains SET hash = ''", ["line 5 is another one than was shipped"]),
        ("DELETE FROM audit_chains", []),
    ],
)
def test_what_verify_finds_in_the_database(
    change: str,
    expected: list[str],
    place: Place,
    database: Database,
    server: postgresql.Server,
    config: Path,
) -> None:
    place.fill(range(5))
    ship(database, place.folder)
    server.execute(f"ALTER TABLE audit_chains ALTER pending SET DEFAULT false; {change}")
    found = faults(config)
    assert len(found) == len(expected), found
    assert all(text in fault for text, fault in zip(expected, found, strict=True)), found


def test_what_a_lost_file_had_more_is_counted(
    place: Place, database: Database, server: postgresql.Server, config: Path
) -> None:
    for number in range(3000):
        place.journal.record(body(number, "x" * 2000))
    with closing(Shipper(database, place.path, "policy-1")) as shipper:
        shipper.step()
    place.path.unlink()
    server.execute(OLD)
    missing, silent = faults(config)
    (count,) = re.findall(r"its last (\d+) lines are missing: its server wrote line 3000,", missing)
    left = int(server.query("SELECT count(*) FROM audit_lines"))
    assert 0 < left == 3000 - int(count)
    assert "silent since" in silent
    shown = run("verify", "--from-database", config=config).stdout
    assert f"of policy-1: {left:,} lines from 1 to {left}:" in shown


def test_after_a_purge_the_rest_can_be_verified(
    tmp_path: Path, database: Database, server: postgresql.Server, config: Path
) -> None:
    chain, other = HashChain(), HashChain()
    later = body(9).replace(b"11-26", b"11-28")
    path = tmp_path / "audit.jsonl"
    path.write_bytes(
        chained(chain, body(1), body(2), later, body(3)) + chained(other, body(4), body(5))
    )
    ship(database, tmp_path)
    assert "removed 4 lines" in run("purge", "--before", "2026-11-27", config=config).stdout
    assert [json.loads(line)["n"] for line in stored(server)] == [3, 9]
    shown = run("verify", "--from-database", config=config)
    assert shown.exit_code == 0, shown.output
    assert f"chain {other.boot_id}: purged up to 2:" in shown.stdout
    assert "has no anchor" not in shown.stdout
    ship(database, tmp_path)
    assert len(stored(server)) == 2
    server.execute("DELETE FROM audit_lines WHERE seq = 3")
    assert any("missing before this line: 3" in fault for fault in faults(config))


def test_lines_of_several_servers_are_merged_by_time(
    tmp_path: Path, database: Database, config: Path
) -> None:
    names = ("policy-1", "policy-2")
    for number, name in enumerate(names):
        folder = tmp_path / name
        folder.mkdir()
        of_call = b'02:%02d","decision_id":"0190-%d","x":"'
        lines = [body(n).replace(b"02:03", of_call % (n, n // 4)) for n in range(number, 6, 2)]
        (folder / "audit.jsonl").write_bytes(chained(HashChain(name), *lines))
        ship(database, folder, name)
    files = [part for name in names for part in ("--file", str(tmp_path / name / "audit.jsonl"))]
    for source in (["--from-database"], files):
        found = run("grep", "--json", *source, config=config).stdout.splitlines()
        assert [json.loads(line)["n"] for line in found] == list(range(6))
        last = run("tail", "-n", "3", *source, config=config).stdout.splitlines()
        assert [line.split()[2] for line in last] == ["policy-2", "policy-1", "policy-2"]
        call = run("show", "--json", "0190-1", *source, config=config).stdout.splitlines()
        assert [json.loads(line)["n"] for line in call] == [4, 5]
    assert len(run("grep", *files[:2], config=config).stdout.splitlines()) == 3
    later = run("grep", "--from-database", "--since", "2026-11-27", config=config)
    assert later.exit_code == 1


def test_files_stay_until_their_lines_are_in_the_database(
    place: Place, database: Database, config: Path
) -> None:
    lost: list[Path] = []
    shipped = ShippedLines(place.path)
    for number in range(4):
        place.fill([number])
        if number == 1:
            ship(database, place.folder)
        place.path.rename(f"{place.path}.2026112{number}T010203123456Z")
        place.clock.pass_by(2.0)
    files = file_and_rotated(place.path)
    assert [*shipped.removable(files[:3], files[3:], 2000, lost.append)] == files[:2]
    place.fill(range(20))
    removable = partial(shipped.removable, most=500, lose=lost.append)
    assert Rotation(keep=1, removable=removable).rotate(place.path, lambda: True)
    (left,) = file_and_rotated(place.path)
    assert left.stat().st_size > 500
    assert lost == files[2:]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("", "[audit.ship] is missing"),
        ('[audit.ship]\nurl = "mysql://x/y"', "is no URL of PostgreSQL"),
        ('[audit.ship]\nurl = "postgresql://u:secret@x/y"', "write password_file"),
        ('[audit.ship]\nurl = "postgresql://u@x/y"\nkeep_days = 0', "keep_days"),
    ],
)
def test_without_a_usable_table_the_exit_code_is_78(table: str, text: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[audit]\npath = "audit.jsonl"\n{table}\n')
    result = run("ship", config=config)
    assert (result.exit_code, text in result.output) == (78, True), result.output
    assert "secret" not in result.output


def test_the_lag_is_in_the_status_and_the_metrics(config: Path, database: Database) -> None:
    ShippedLines(config.parent / "audit.jsonl").write(time.time() - 1000, {})
    with live_server.running(config) as server:
        server.ask(f"{wire.SERVICE}?local_alias=x")
        wait_until(lambda: (server.operator("/status").json["audit"]["ship_lag"] or 0) > 900)
        metrics = server.operator("/metrics").body
        assert float(re.findall(rb"\npexpolicy_audit_ship_lag_seconds ([\d.]+)", metrics)[0]) > 900
        assert b"\npexpolicy_audit_removed_unshipped_total 0" in metrics
        url = ("--url", server.admin)
        degraded = CliRunner().invoke(status, ["--strict", *url])
        assert (degraded.exit_code, "not in the database for 16 min" in degraded.output) == (
            1,
            True,
        )
        ship(database, config.parent)
        wait_until(lambda: server.operator("/status").json["audit"]["ship_lag"] < 60)


def test_a_failure_of_the_client_itself_is_one_of_the_database(database: Database) -> None:
    async def fail(_: object) -> None:
        raise asyncpg.InternalClientError("cannot switch to state 15")

    with pytest.raises(DatabaseUnavailable, match="cannot switch"):
        database.run(fail)


def test_a_database_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    url = f"postgresql://u@/d?host={tmp_path}"
    config.write_text(f'[audit]\npath = "audit.jsonl"\n[audit.ship]\nurl = "{url}"\n')
    result = run("verify", "--from-database", config=config)
    assert (result.exit_code, result.output.startswith("the database of audit.ship.url: ")) == (
        2,
        True,
    )
