"""The two sides of a replay: configurations, other servers, and what cannot be known."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from pexpolicy.config.secrets import PasswordHash
from pexpolicy.replay import run
from tests.cli.test_main import invoked
from tests.replay import audits
from tests.replay.audits import replayed
from tests.support import live_server, wire

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ENGINEERING = f"{wire.SERVICE}?local_alias=engineering"
HASHED = """
[privacy]
personal = "hashed"
key_env = "PRIVACY_KEY"
"""
DROPPED = """
[privacy]
personal = "dropped"
"""
BY_TAG = """
[plugins.rules]
priority = 1
[[plugins.rules.settings.rules]]
name = "{name}"
endpoint = "service_configuration"
when = {{ {parameter} = "x" }}
then = {{ action = "reject" }}
"""


@contextmanager
def foreign_server(body: bytes, status: int = 200) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as inherited
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def urls(folder: Path, *targets: str) -> Path:
    path = folder / "urls"
    path.write_text("\n".join(targets) + "\n")
    return path


def test_our_own_server_answers_as_its_configuration(
    running_server: live_server.Running, tmp_path: Path
) -> None:
    path = urls(tmp_path, *(f"{ENGINEERING}&call_tag={n}" for n in range(20)), wire.LOCATION)
    found = replayed(path, "--config", live_server.SHIPPED, "--against", running_server.url)
    assert (found["same"], found["changed"]) == (21, 0)
    assert "present time" in found["remarks"][0]


def test_the_log_of_the_server_that_is_asked_is_read_as_it_was(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    rooms = '[plugins.rooms.settings.rooms.engineering]\nname = "E"\n'
    config.write_text(f'[audit]\npath = "audit.jsonl"\n{rooms}')
    with live_server.running(config) as server:
        for number in range(5):
            server.ask(f"{ENGINEERING}&call_tag={number}")
        found = replayed(tmp_path / "audit.jsonl", "--config", config, "--against", server.url)
    assert (sum(found["records"].values()), found["same"], found["changed"]) == (5, 5, 0)


def test_records_of_a_pipe_are_read_to_their_end(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, f"{ENGINEERING}\n{wire.LOCATION}\n".encode())
    os.close(writer)
    try:
        found = replayed(f"/dev/fd/{reader}", "--config", live_server.SHIPPED)
    finally:
        os.close(reader)
    assert found["records"]["exact"] == 2


def test_the_replies_of_another_server_are_read_as_infinity_reads_them(tmp_path: Path) -> None:
    path = urls(tmp_path, ENGINEERING)
    config = ("--config", live_server.SHIPPED)
    same = {"service_type": "conference", "name": "Engineering Room"}
    same["service_tag"] = "engineering-room"
    reply = json.dumps({"status": "success", "action": "anything", "result": same}).encode()
    with foreign_server(reply) as url:
        assert replayed(path, *config, "--against", url)["same"] == 1
    reply = json.dumps({"status": "success", "result": {**same, "pin": "471147"}}).encode()
    with foreign_server(reply) as url:
        found = replayed(path, *config, "--against", url, code=1)
    assert found["groups"][0]["example"]["changes"] == {"pin": {"from": "***"}}
    with foreign_server(b"{}", 404) as url:
        (group,) = replayed(path, *config, "--against", url, code=1)["groups"]
    assert (group["from"]["action"], group["to"]["action"]) == ("continue", "continue with result")


def test_a_server_that_refuses_or_is_down_ends_the_replay(tmp_path: Path) -> None:
    path = urls(tmp_path, *[ENGINEERING] * 30)
    with foreign_server(b"{}", 401) as url:
        refused = invoked("replay", str(path), "--against", url, "-c", str(live_server.SHIPPED))
    assert refused.exit_code == 2
    assert "user or password" in refused.output
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    down = invoked("replay", str(path), "--against", url, "-c", str(live_server.SHIPPED))
    assert down.exit_code == 2
    assert "does not answer" in down.output


def test_plugins_reach_no_network(tmp_path: Path) -> None:
    reply = {"status": "success", "action": "reject"}
    config = tmp_path / "config.toml"
    with foreign_server(json.dumps(reply).encode()) as url:
        config.write_text(f'[plugins.upstream.settings.targets.old]\nurl = "{url}"\n')
        path = urls(tmp_path, ENGINEERING)
        blocked = replayed(path, "--config", config, code=2)
    assert list(blocked["records"].values()) == [0, 0, 1, 0]
    assert "the plugin upstream asks the network" in blocked["reasons"][0]["reason"]


@pytest.mark.parametrize(
    ("parameter", "privacy", "expected"),
    [
        ("call_tag", "", [1, 0, 0, 0]),
        ("third_party_passcode", "", [0, 1, 0, 0]),
        ("call_tag", HASHED, [0, 0, 1, 0]),  # the plugin rooms reads the hashed alias
        ("call_tag", DROPPED, [0, 0, 1, 0]),
    ],
)
def test_what_a_record_lacks_counts_where_it_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    parameter: str,
    privacy: str,
    expected: list[int],
) -> None:
    monkeypatch.setenv("PRIVACY_KEY", "a key of more than thirty-two characters")
    config = tmp_path / "config.toml"
    shipped = live_server.SHIPPED.read_text()
    config.write_text(shipped + BY_TAG.format(name="tagged", parameter=parameter) + privacy)
    pairs = [("local_alias", "engineering"), ("third_party_passcode", "1234"), ("new", "y")]
    call = ("service_configuration", "", pairs, NOON)
    audit = audits.written(config, [call], tmp_path / "audit.jsonl")
    found = replayed(audit, "--config", config, code=2 if expected[2] else 0)
    assert list(found["records"].values()) == expected
    assert found["changed"] == 0


def test_a_record_without_a_time_counts_where_the_time_is_read(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    both = 'time = { zone = "UTC", between = ["08:00", "16:00"] }, call_tag'
    config.write_text(BY_TAG.format(name="closed", parameter=both))
    read, unread = (f"{ENGINEERING}&call_tag={tag}" for tag in "xy")
    timed = json.dumps({"ts": NOON.isoformat(), "uri": read})
    for record, expected in ((read, [0, 1, 0, 0]), (unread, [1, 0, 0, 0]), (timed, [1, 0, 0, 0])):
        found = replayed(urls(tmp_path, record), "--config", config)
        assert list(found["records"].values()) == expected, record
        assert record != timed or found["matrix"][0]["to"] == "reject"


def test_reports_in_files_hold_the_groups_and_no_foreign_markup(tmp_path: Path) -> None:
    name = "<b>=1+1</b>\x1b[31m"
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    rooms = '[plugins.rooms.settings.rooms.a]\nname = {}\nservice_tag = ""\npin = "471147"\n'
    old.write_text(rooms.format(json.dumps("=A")))
    new.write_text(rooms.format(json.dumps("<b>B</b>")))
    pairs = [("local_alias", "a"), ("remote_display_name", name)]
    audit = audits.written(old, [("service_configuration", "", pairs, NOON)], tmp_path / "audit")
    files = {kind: tmp_path / f"report.{kind}" for kind in ("xml", "html")}
    options = [part for path in files.values() for part in ("--report", str(path))]
    done = invoked("replay", str(audit), "--config", str(new), *options)
    assert done.exit_code == 1
    assert len(ET.parse(files["xml"]).findall(".//failure")) == 1  # noqa: S314 - our own file
    page = files["html"].read_text()
    assert "&lt;b&gt;B&lt;/b&gt;" in page
    assert "<b>B" not in page
    assert "http" not in page.replace("http-equiv", "")
    for text in (done.output, *(path.read_text() for path in files.values())):
        assert "471147" not in text
        assert "\x1b" not in text
    done = invoked("replay", str(audit), "--config", str(new), "--report", "report.csv")
    assert done.exit_code == 2


def test_the_user_of_a_server_has_a_password_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = PasswordHash.create("a secret word")
    config = tmp_path / "config.toml"
    config.write_text(f'[auth]\nuser = "node"\npassword_hash = "{hashed}"\n')
    open_config = tmp_path / "open.toml"
    open_config.write_text("")
    with live_server.running(config) as server:
        url = server.url.replace("://", "://node@")
        command = ("replay", str(urls(tmp_path, ENGINEERING)), "-c", str(open_config), "--against")
        assert invoked(*command, url).exit_code == 2
        monkeypatch.setenv("PEXPOLICY_PASSWORD", "a secret word")
        done = invoked(*command, url)
        assert done.exit_code == 0, done.output
        assert "1 same" in done.stdout
        assert invoked(*command, url.replace("@", ":a@")).exit_code == 2


HANGING = """
import asyncio
from pexpolicy import Plugin

class Hanging(Plugin):
    async def service_configuration(self, request):
        await asyncio.sleep(3600)
"""


def test_a_plugin_that_never_answers_holds_no_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MAX_ANSWER_S", 0.05)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/hanging.py").write_text(HANGING)
    config = tmp_path / "config.toml"
    config.write_text('plugin_dirs = ["plugins"]\n[plugins.hanging]\n')
    calls = urls(tmp_path, f"http://127.0.0.1{ENGINEERING}")
    result = invoked("replay", "-c", str(config), "--against", str(config), str(calls), "--json")
    assert json.loads(result.stdout)["records"]["not_replayable"] == 1
