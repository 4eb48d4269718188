"""`pexpolicy doctor`: what is wrong with files, certificate, machine and server is in its list."""

import http.client
import json
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from tests.support import certificates, live_server, wire
from tests.support.server_process import free_port
from tests.support.waiting import HANG_S

ROOMS = "aliases,name,pin\nmeet@example.com,Meet,482913\n"


def findings(config: Path) -> tuple[int, list[dict[str, Any]]]:
    invoked = CliRunner().invoke(
        main, ["doctor", "--config", str(config), "--json"], catch_exceptions=False
    )
    return invoked.exit_code, json.loads(invoked.stdout)


def about(found: list[dict[str, Any]], subject: str) -> list[tuple[str, str]]:
    return [(one["state"], one["text"]) for one in found if one["subject"] == subject]


def call(port: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=HANG_S)
    connection.request("GET", f"{wire.SERVICE}?node_ip=10.44.7.5")
    assert connection.getresponse().status == 200
    connection.close()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with TLS, a PIN in a spreadsheet, and an audit file."""
    certificates.write_pair(tmp_path)
    certificates.write_authority(tmp_path)
    (tmp_path / "server.key").chmod(0o600)
    (tmp_path / "rooms.csv").write_text(ROOMS)
    (tmp_path / "rooms.csv").chmod(0o600)
    path = tmp_path / "config.toml"
    path.write_text(
        f"""
[server]
port = {free_port()}
[admin]
port = {free_port()}
[tls]
certificate = "server.pem"
key = "server.key"
[audit]
path = "audit.jsonl"
[plugins.rooms.settings]
csv = "rooms.csv"
"""
    )
    return path


def test_each_subject_is_listed_while_nothing_runs(config: Path) -> None:
    code, found = findings(config)
    states = {one["subject"]: one["state"] for one in found}
    assert code == 0, found
    assert [name for name, state in states.items() if state == "skipped"] == ["server"]
    assert {states[name] for name in ("configuration", "ports", "certificate")} == {"ok"}
    assert "file modes" not in states
    assert "trusted by" in about(found, "certificate")[1][1]


@pytest.mark.parametrize("name", ["server.key", "rooms.csv"])
def test_a_secret_that_others_can_read_is_an_error(config: Path, name: str) -> None:
    path = config.parent / name
    path.chmod(0o644)
    code, found = findings(config)
    ((state, said),) = about(found, "file modes")
    assert (code, state) == (1, "error")
    assert said.startswith(f"{path} can be read by every user: chmod 600 ")
    (config.parent / "rooms.csv").write_text("aliases,name\nmeet@example.com,Meet\n")
    assert findings(config)[0] == (name == "server.key")


def test_a_port_in_use_is_an_error(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = config.read_text()
        config.write_text(text.replace("[server]\nport = ", f"[server]\nport = {port} #"))
        code, found = findings(config)
    assert code == 1
    state, said = about(found, "ports")[0]
    assert state == "error"
    assert f"127.0.0.1:{port} cannot be used" in said


def test_a_chain_that_the_nodes_do_not_trust_is_an_error(config: Path) -> None:
    certificates.write_authority(config.parent, of="another company")
    code, found = findings(config)
    assert code == 1
    assert any(s == "error" and "not trusted" in said for s, said in about(found, "certificate"))


def test_an_authority_made_by_openssl_alone_is_enough(config: Path) -> None:
    """Python 3.13 asks for extensions that it does not have, and nodes do not."""
    new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj"
    issued = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 90"
    for arguments in (
        f"req -x509 -days 90 {new} /CN=site -keyout ca.key -out ca.pem",
        f"req {new} /CN=policy.example.com -keyout server.key -out server.csr",
        f"x509 -req -in server.csr {issued} -out server.pem",
    ):
        subprocess.run(
            ["openssl", *arguments.split()], cwd=config.parent, check=True, capture_output=True
        )
    _, found = findings(config)
    assert {state for state, _ in about(found, "certificate")} == {"ok"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[tls]", "[server2]\n[tls]", "server2"),
        ("[audit]", '[audit]\nsign_key_file = "key.pem"', "audit.sign_key_file"),
    ],
)
def test_an_invalid_configuration_is_checked_as_far_as_it_goes(
    config: Path, old: str, new: str, said: str
) -> None:
    (config.parent / "key.pem").write_text("none")
    config.write_text(config.read_text().replace(old, new))
    code, found = findings(config)
    assert (code, said in str(about(found, "configuration"))) == (1, True)
    assert about(found, "audit")
    assert about(found, "certificate")


def test_a_running_server_and_its_nodes_are_listed(config: Path) -> None:
    ports = [line.rpartition(" ")[2] for line in config.read_text().splitlines() if "port" in line]
    with live_server.running(config, "--port", ports[0], "--admin-port", ports[1]) as server:
        plain = config.read_text()
        for _ in range(2):
            call(server.port)
        code, found = findings(config)
        assert code == 0, found
        assert about(found, "server")[0][1].startswith("ready")
        assert "free" in str(about(found, "audit"))
        config.write_text(plain + "[infinity]\nmin_pin_length = 5\n")
        assert "another configuration" in str(about(findings(config)[1], "server"))


CHECKS = [
    (
        "def checks(self): return [('api', True, 'answers'), ('login', False, 'HTTP 401')]",
        [("ok", "api", "answers"), ("error", "login", "HTTP 401")],
    ),
    ("def checks(self): raise OSError('gone')", [("error", "checks", "OSError: gone (own.py:3)")]),
    ("async def checks(self): raise SystemExit(0)", [("error", "checks", "SystemExit: 0")]),
    ("def checks(self): return [('api', 1, 'x')]", [("error", "checks", "(name, True or False")]),
    (
        "async def checks(self):\n        import asyncio; await asyncio.sleep(60)",
        [("error", "checks", "no answer within 0.1 s")],
    ),
]


@pytest.mark.parametrize(("hook", "expected"), CHECKS)
def test_the_checks_of_a_plugin_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: str, expected: list[tuple[str, ...]]
) -> None:
    monkeypatch.setattr("pexpolicy.plugins.binding.CHECKS_TIMEOUT_S", 0.1)
    table = "class Own(Plugin):\n    " + hook + "\n    def status(self): return {}\n"
    ports = f"[server]\nport = {free_port()}\n[admin]\nport = {free_port()}"
    own = f"from pexpolicy import Plugin\n{table}"
    config = live_server.drop_in(tmp_path, "own", own, more=ports)
    status, found = findings(config)
    rows = [one for one in found if one["subject"].startswith("own: ")]
    assert [(one["state"], one["subject"]) for one in rows] == [
        (state, f"own: {name}") for state, name, _ in expected
    ]
    assert all(said in one["text"] for one, (*_, said) in zip(rows, expected, strict=True)), rows
    assert status >= any(state == "error" for state, *_ in expected)
