"""The factory: files, spools and invalid configurations."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from multidict import MultiDict

from pexpolicy import ServiceConfigurationRequest
from pexpolicy.audit.audit_log import audit_of
from pexpolicy.audit.redaction import Redaction
from pexpolicy.config.settings import ConfigError
from pexpolicy.models.request import CallFacts
from tests.audit.places import Place, faults, lines
from tests.support import fake_plugins, forked
from tests.support.fake_plugins import open_audit, settings

LISTENED = """
import sys
from pexpolicy.audit.audit_log import audit_of
from tests.support.fake_plugins import settings
audit = audit_of(settings(), sys.stderr.write)
audit.refused("unauthorised", 401, None, "")
audit.close()
"""


def left_in_the_spool(folder: Path) -> Place:
    """Write line 1 to the file, and lines 2 and 3 to the spool."""
    place = Place(folder, spool=1 << 20)
    place.fill([1])
    place.break_down()
    place.fill([2, 3])
    place.journal.close()
    return place


def test_lines_that_a_writer_left_in_the_spool_are_taken_over(tmp_path: Path) -> None:
    place = left_in_the_spool(tmp_path)
    assert list(tmp_path.glob("*.spool"))
    audit = open_audit(place.path, spool=str(tmp_path))
    audit.refused("unauthorised", 401, None, "")
    audit.close()
    assert [line.get("n") for line in lines(place.path)] == [1, 2, 3, None, None]
    assert faults(place.path) == []
    assert not list(tmp_path.glob("*.spool"))


def test_lines_of_a_spool_can_be_verified_without_the_files_before_them(tmp_path: Path) -> None:
    place = left_in_the_spool(tmp_path)
    place.path.unlink()
    audit = open_audit(place.path, spool=str(tmp_path))
    audit.close()
    assert place.numbers == [2, 3]
    assert faults(place.path) == []


def test_lines_in_the_spool_keep_no_server_from_starting_while_the_disk_is_full(
    tmp_path: Path,
) -> None:
    place = left_in_the_spool(tmp_path)
    open_audit(Path("/dev/full"), spool=str(tmp_path)).close()
    open_audit(place.path, spool=str(tmp_path)).close()
    assert place.numbers == [1, 2, 3]
    assert faults(place.path) == []
    assert not list(tmp_path.glob("*.spool"))


def test_the_table_is_what_the_lines_show(tmp_path: Path) -> None:
    table = {"path": str(tmp_path / "audit.jsonl"), "instance": "north"}
    audit = audit_of(settings(audit=table), print)
    audit.refused("unauthorised", 401, None, "")
    audit.close()
    line, end = lines(tmp_path / "audit.jsonl")
    assert (line["instance"], line["seq"]) == ("north", 1)
    assert (end["event"], end["instance"], end["seq"]) == ("end", "north", 2)
    assert (audit.state.status, audit.state.records) == ("healthy", 1)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"path": "a", "level": "required"}, "on_fail"),
        ({"level": "fsync"}, "needs a path"),
        ({"rotate_mb": 5}, "standard output"),
        ({"path": "a", "keep": 5}, "keep is for"),
        ({"path": "a", "sign_key_env": "A", "sign_key_file": "b"}, "not both"),
        ({"path": "a", "sign_key_file": "missing"}, "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(audit=table)


@pytest.mark.parametrize("regular", [True, False])
def test_standard_output_may_be_a_file_or_a_pipe(tmp_path: Path, regular: bool) -> None:
    (tmp_path / "out").touch()
    files = (os.open(tmp_path / "out", how) for how in (os.O_RDONLY, os.O_WRONLY))
    reading, writing = files if regular else os.pipe()
    with forked.Process(program=LISTENED, stdout=writing) as process:
        assert process.wait() == 0
        os.close(writing)
    with open(reading) as output:  # noqa: PTH123 - a descriptor
        assert json.loads(output.readline())["seq"] == 1


def test_standard_output_that_is_closed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OSError, match="it is closed: 'standard output'"):
        audit_of(settings(), print)


def test_lines_wait_until_a_named_pipe_has_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    audit = open_audit(path)
    for _ in range(3):
        audit.refused("unknown path", 404, None, "")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    audit.close()
    written = os.read(reader, 1 << 16).splitlines()
    assert [json.loads(line)["seq"] for line in written] == [1, 2, 3, 4]
    os.close(reader)


def test_a_named_pipe_blocks_no_call(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    audit = open_audit(path)
    for _ in range(1000):
        audit.refused("unknown path", 404, None, "", path="x" * 200)
    assert audit.state.buffered_bytes > 0
    first = os.read(reader, 1 << 16).splitlines()[0]
    assert json.loads(first)["seq"] == 1
    audit.close()
    os.close(reader)


def test_a_key_that_cannot_sign_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "sign.pem"
    path.write_text("no key")
    with pytest.raises(ConfigError, match=r"audit\.sign_key_file: is not an Ed25519 key in PEM"):
        fake_plugins.policy({}, audit={"path": "audit.jsonl", "sign_key_file": str(path)})


async def test_a_line_is_written_even_where_taking_secrets_out_fails(tmp_path: Path) -> None:
    class Broken(Redaction):
        def request(self, *_: Any) -> Any:
            raise KeyError("the secret of alice")

        def result(self, *_: Any) -> Any:
            raise KeyError("the secret of alice")

    policy = fake_plugins.policy({})
    audit = open_audit(tmp_path / "audit.jsonl").with_redaction(Broken())
    async with policy.serving():
        params: MultiDict[str] = MultiDict(local_alias="alice")
        answer = await policy.answer(ServiceConfigurationRequest(params), "an id")
        assert audit.write(audit.record(CallFacts(), answer)) is None
        audit.shadow("", answer.outcome, answer.outcome, False)
    audit.close()
    line, shadow, _ = lines(tmp_path / "audit.jsonl")
    assert (shadow["would_send"], shadow["redaction_error"]) == (None, "KeyError")
    assert line["redaction_error"] == "KeyError"
    assert (line["decision_id"], line["request"], line["sent"]) == ("an id", {}, None)
    assert "alice" not in (tmp_path / "audit.jsonl").read_text()
