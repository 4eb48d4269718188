"""A server process: replies when its audit cannot be written, and rotation."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from multidict import MultiDict

from pexpolicy.audit.reader import file_and_rotated
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.policy import UNRECORDED
from tests.audit.places import faults, lines
from tests.support import forked, live_server, wire
from tests.support.fake_plugins import always, plugin, policy
from tests.support.paths import ROOT
from tests.support.waiting import wait_until

FULL = Path("/dev/full")
PLUGINS = """
[plugins.rooms.settings]
default_room = "Room {local_alias}"
"""


@contextmanager
def server(folder: Path, audit: str, path: str = "audit.jsonl") -> Iterator[live_server.Running]:
    config = folder / "config.toml"
    config.write_text(f"[audit]\npath = {json.dumps(path)}\n{audit}\n{PLUGINS}")
    with live_server.running(config) as running:
        yield running


def ask(running: live_server.Running, count: int) -> list[str]:
    """Send calls; return the decision ids of the replies."""
    return [
        running.ask(f"{wire.SERVICE}?local_alias=room{number}").json["decision_id"]
        for number in range(count)
    ]


def ids(folder: Path) -> list[str]:
    found = lines(*file_and_rotated(folder / "audit.jsonl"))
    return [line["decision_id"] for line in found if line["event"] != "end"]


@pytest.mark.skipif(not FULL.exists(), reason="there is no full device here")
@pytest.mark.parametrize(("on_fail", "action"), [("fallback", "continue"), ("reject", "reject")])
def test_no_decision_leaves_that_must_be_recorded_and_is_not(
    tmp_path: Path, on_fail: str, action: str
) -> None:
    with server(tmp_path, f'level = "required"\non_fail = "{on_fail}"', str(FULL)) as running:
        for target in wire.TARGETS.values():
            running.ask(target)
        reply = running.ask(f"{wire.SERVICE}?local_alias=engineering")
    assert reply.json["reason"] == UNRECORDED
    assert reply.json["decided_by"] == "default"
    assert (reply.action, reply.result) == (action, None)


@pytest.mark.parametrize("rejects", [True, False])
@pytest.mark.parametrize("endpoint", list(wire.TARGETS))
async def test_what_stands_in_for_a_decision_decides_nothing(endpoint: str, rejects: bool) -> None:
    made = policy({"toy": plugin(**{endpoint: always(None)})})
    async with made.serving():
        answer = await made.answer(ENDPOINTS[endpoint].parse(MultiDict(), "alice"), "an id")
        instead = made.audit_failure_answer(answer.outcome, rejects=rejects)
    known = made.chains[endpoint].endpoint
    assert instead.outcome.decision == (known.refusal if rejects else known.default)
    assert instead.outcome.decision.reason == UNRECORDED
    assert instead.outcome.decision_id == "an id"
    if instead.reply.content_type == "application/json":
        assert json.loads(instead.reply.body)["reason"] == UNRECORDED


@pytest.mark.parametrize("level", ["fsync", "required"])
def test_each_answer_has_its_line_at_each_level(tmp_path: Path, level: str) -> None:
    on_fail = '\non_fail = "reject"' if level == "required" else ""
    with server(tmp_path, f'level = "{level}"{on_fail}') as running:
        replies = [running.ask(wire.SERVICE).json for _ in range(10)]
        # On a busy disk an unsent decision may be recorded and retracted.
    sent = [one["decision_id"] for one in replies if one.get("reason") != UNRECORDED]
    events = lines(tmp_path / "audit.jsonl")
    back = {line["decision_id"] for line in events if line["event"] == "retracted"}
    written = [line["decision_id"] for line in events if line["event"] == "decision"]
    assert [one for one in written if one not in back] == sent
    assert faults(tmp_path / "audit.jsonl") == []


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="there is no logrotate here")
def test_the_configuration_for_logrotate_that_is_shipped_loses_nothing(tmp_path: Path) -> None:
    shipped = (ROOT / "deploy" / "logrotate.conf").read_text()
    with server(tmp_path, "") as running:
        here = shipped.replace("/var/log/pexpolicy/", f"{tmp_path}/").replace(
            "systemctl kill --signal=SIGUSR1 --kill-whom=main pexpolicy.service",
            f"kill -USR1 {running.pid}",
        )
        assert here.count(str(tmp_path)) == 1
        assert str(running.pid) in here
        config = tmp_path / "logrotate.conf"
        config.write_text("\n".join(line for line in here.splitlines() if " su " not in line))
        config.chmod(0o644)
        asked = []
        for _ in range(3):
            asked += ask(running, 3)
            state = str(tmp_path / "state")
            output = subprocess.run(
                ("logrotate", "--force", "--state", state, str(config)),
                capture_output=True,
                text=True,
                check=False,
            )
            assert output.returncode == 0, output.stderr
            wait_until((tmp_path / "audit.jsonl").exists)
        asked += ask(running, 3)
    paths = file_and_rotated(tmp_path / "audit.jsonl")
    assert len(paths) == 4
    found = [
        json.loads(line)["decision_id"]
        for path in paths
        for line in subprocess.run(
            ("zcat", "--force", str(path)), capture_output=True, check=True
        ).stdout.splitlines()
        if b'"event":"end"' not in line
    ]
    assert found == asked
    output = forked.run("audit", "verify", "-c", "config.toml", cwd=tmp_path)
    assert output.returncode == 0, output.stdout


def test_the_file_is_looked_after_while_no_call_comes(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with server(tmp_path, "rotate_hours = 0.0002") as running:
        asked = ask(running, 1)
        wait_until(lambda: len(file_and_rotated(path)) > 1)
        asked += ask(running, 1)
        path.unlink()
        wait_until(path.exists)
    assert set(ids(tmp_path)) <= set(asked)
    assert asked[0] in ids(tmp_path)


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_reader_of_standard_output_that_stalls_is_said_and_misses_nothing(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (config := tmp_path / "config.toml").write_text(PLUGINS)
    reader, writer = os.pipe()
    with (
        open(reader, encoding="utf-8") as output,  # noqa: PTH123 - a descriptor
        live_server.running(config, *arguments, stdout=writer) as running,
    ):
        os.close(writer)

        def health() -> tuple[int, bool]:
            metrics = running.operator("/metrics").body.decode()
            return running.operator("/readyz").status, "\npexpolicy_ready 1" in metrics

        assert health() == (200, True)
        asked = []
        while health() != (503, False):
            asked += ask(running, 20)
        assert running.ask("/readyz").status == 503
        found = [json.loads(output.readline())["decision_id"] for _ in asked]
        # Each worker writes its own lines in their order.
        assert sorted(found) == sorted(asked)
        wait_until(lambda: health() == (200, True))
        asked = ask(running, 1)
        assert json.loads(output.readline())["decision_id"] == asked[0]
