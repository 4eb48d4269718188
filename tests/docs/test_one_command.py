"""The page for nights: each fault of its table is found by its command, at a real server."""

import re
import shlex
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from tests.replay.test_sides import foreign_server
from tests.support import doc_pages, live_server, wire

PAGE = doc_pages.DOCS / "tasks" / "at-three-in-the-morning.md"
COMMANDS = dict(re.findall(r"(?m)^\| ([^|`]+) \| `(pexpolicy [^`]+)` \|", PAGE.read_text()))
CRM = """
import asyncio
from pexpolicy import Plugin

class Crm(Plugin):
    async def service_configuration(self, request):
        if "slow" in request.local_alias:
            await asyncio.sleep(60)
"""
CONFIG = """
plugin_dirs = ["plug"]
[access]
networks = ["127.0.0.1/32"]
[audit]
path = "audit.jsonl"
[plugins.rules]
priority = 5
[[plugins.rules.settings.rules]]
name = "Catch all"
endpoint = "service_configuration"
when.local_alias.prefix = "meet"
then.result = {{ name = "Everybody", service_tag = "", pin = "111111" }}
[plugins.crm]
priority = 6
timeout = 0.1
[plugins.rooms]
priority = 10
[plugins.rooms.settings.rooms.meet07]
name = "Meeting 07"
pin = "482913"
[plugins.upstream]
priority = 20
[plugins.upstream.settings.targets.old]
url = "{}"
"""
SEEN = {
    "the PIN of a room is wrong": r'"pin": ?"111111"',
    "a node is refused": r"127\.0\.0\.2.*network not allowed",
    "a plugin is late": r"crm timed_out",
    "another plugin decides": r"rules decided.*Catch all",
    "another server sends what Infinity would drop": r"not JSON.*character",
    "the audit was changed": r"audit\.jsonl:\d+: .* was changed",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live_server.Running]:
    """A server with all faults at once."""
    folder = tmp_path_factory.mktemp("night")
    (folder / "plug").mkdir()
    (folder / "plug" / "crm.py").write_text(CRM)
    with foreign_server(b'{"status": "success" "action": "continue"}') as url:
        (folder / "config.toml").write_text(CONFIG.format(url))
        with live_server.running(folder / "config.toml", folder=folder) as running:
            for alias in ("meet07", "slow", "booked"):
                running.ask(f"{wire.SERVICE}?local_alias={alias}")
            asked_from("127.0.0.2", running.port)
            yield running


def asked_from(address: str, port: int) -> None:
    source = (address, 0)
    # The server closes the connection before it reads.
    with (
        socket.create_connection(("127.0.0.1", port), source_address=source) as connection,
        suppress(ConnectionError),
    ):
        connection.sendall(f"GET {wire.SERVICE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        connection.recv(100)


def test_the_table_has_the_faults() -> None:
    assert COMMANDS.keys() == SEEN.keys()


@pytest.mark.parametrize("fault", SEEN)
def test_one_command_shows_the_fault(
    server: live_server.Running, monkeypatch: pytest.MonkeyPatch, fault: str, tmp_path: Path
) -> None:
    monkeypatch.chdir(server.audit.parent)
    words = shlex.split(COMMANDS[fault])[1:]
    if words[0] == "status":
        words += ["--url", server.admin]
    if "verify" in words:
        changed = server.audit.read_text().replace("Everybody", "Nobody", 1)
        (tmp_path / "audit.jsonl").write_text(changed)
        words += ["--file", str(tmp_path / "audit.jsonl")]
    done = CliRunner().invoke(main, words, env={"COLUMNS": "200"})
    assert re.search(SEEN[fault], " ".join(done.output.split())), done.output
    assert done.exit_code in (0, 1)
