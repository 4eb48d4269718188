"""The servers of one policy as `pexpolicy status --fleet` and `/fleet` show them."""

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner, Result

from pexpolicy.cli.main import main
from pexpolicy.config.loader import load
from pexpolicy.config.settings import ConfigError
from pexpolicy.fleet.members import MAX_BYTES, Member, differences, member_of
from tests.support import live_server, wire
from tests.support.server_process import free_port
from tests.support.waiting import wait_until

TOKEN = "a token of sixteen letters"
POLICY = '[plugins.domains.settings]\nallowed = ["@example.com"]\n'


def status(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["status", "--fleet", "--config", str(config), *arguments])


def configured(folder: Path, number: int, ports: list[int], policy: str = POLICY) -> Path:
    own = folder / str(number)
    own.mkdir(exist_ok=True)
    (own / "token").write_text(TOKEN)
    config = own / "config.toml"
    servers = json.dumps([f"http://127.0.0.1:{port}" for port in ports])
    config.write_text(
        f'[admin]\nport = {ports[number]}\ntoken_file = "token"\n[fleet]\nservers = {servers}\n'
        f'[audit]\npath = "audit.jsonl"\ninstance = "policy-{number}"\n{policy}'
    )
    return config


@contextmanager
def running(folder: Path, number: int) -> Iterator[tuple[list[Path], list[live_server.Running]]]:
    """Start servers that know each other."""
    ports = [free_port() for _ in range(number)]
    configs = [configured(folder, one, ports) for one in range(number)]
    with ExitStack() as stack:
        start = [live_server.running(one, own_admin_port=True) for one in configs]
        yield configs, [stack.enter_context(one) for one in start]


def test_servers_that_agree_one_that_refuses_and_one_that_is_silent(tmp_path: Path) -> None:
    with running(tmp_path, 2) as (configs, servers):
        servers[1].ask(wire.SERVICE)
        shown = status(configs[0], "--json")
        assert (shown.exit_code, shown.stderr) == (0, "")
        first, second = json.loads(shown.stdout)["servers"]
        assert (first["instance"], second["instance"]) == ("policy-0", "policy-1")
        assert first["policy_hash"] == second["policy_hash"] != ""
        assert (first["last_call"], second["last_call"] is None) == (None, False)
        assert first["plugins"].keys() == {"domains"}
        assert status(configs[0], "--expect", first["policy_hash"]).exit_code == 0
        assert status(configs[0], "--expect", first["version"], "--wait", "1").exit_code == 0
        other = status(configs[0], "--expect", "0123456789abcdef")
        assert other.exit_code == 1
        assert other.stderr.count("not 0123456789abcdef") == 2
        # The files of one server are broken: it says so to each other one.
        configs[1].write_text(configs[1].read_text().replace("allowed", "alowed"))
        assert CliRunner().invoke(main, ["reload", "--config", str(configs[1])]).exit_code == 78
        refused = status(configs[0])
        assert refused.exit_code == 1
        assert "policy-1 (http" in refused.stderr
        assert "plugins.domains.settings" in refused.stderr
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert servers[0].operator("/fleet").status == 401
        document = servers[0].operator("/fleet", headers=bearer).json
        assert "plugins.domains.settings" in document["servers"][1]["refused"]
        assert document["differences"] == refused.stderr.splitlines()
        # One has another policy, and one does not answer.
        ports = [int(one.admin.rpartition(":")[2]) for one in servers]
        configured(tmp_path, 1, ports, POLICY.replace("example.com", "example.org"))
        assert CliRunner().invoke(main, ["reload", "--config", str(configs[1])]).exit_code == 0
        asking = configured(tmp_path, 0, [*ports, free_port()])
        differing = status(asking)
        assert differing.exit_code == 1
        assert "policy_hash differs" in differing.stderr
        assert "nothing listens there" in differing.stderr


def test_waiting_ends_when_the_servers_agree(tmp_path: Path) -> None:
    port = free_port()
    config = configured(tmp_path, 0, [port])
    waiting: list[Result] = []
    thread = threading.Thread(target=lambda: waiting.append(status(config, "--wait", "60")))
    thread.start()
    with live_server.running(config, own_admin_port=True):
        thread.join()
    assert waiting[0].exit_code == 0


class Handler(http.server.BaseHTTPRequestHandler):
    seen: list[str]
    answer: tuple[int, bytes]

    def do_GET(self) -> None:
        self.seen.append(self.path)
        self.send_response(self.answer[0])
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(self.answer[1])))
        self.end_headers()
        self.wfile.write(self.answer[1])

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("code", "body", "said"),
    [
        (302, b"", "it answers 302"),
        (200, b"[" * 100_000, "is not the status of a server"),
        (200, b'{"config": {"activated_at": NaN}}', "is not the status of a server"),
        (200, b'{"config": {}}', "is not the status of a server"),
        (200, b'"\xff"', "is not the status of a server"),
        (200, b" " * (MAX_BYTES + 1), f"more than {MAX_BYTES} bytes"),
        (500, b"", "it answers 500"),
    ],
)
def test_another_program_at_the_address_is_silent(
    tmp_path: Path, code: int, body: bytes, said: str
) -> None:
    seen: list[str] = []
    kind = type("Kind", (Handler,), {"seen": seen, "answer": (code, body)})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            shown = status(configured(tmp_path, 0, [server.server_port]))
        finally:
            server.shutdown()
            thread.join()
    assert (shown.exit_code, said in shown.stderr) == (1, True)
    assert seen == ["/status"]


ALIKE: dict[str, Any] = {"version": "1", "plugins": {"rooms": "2"}, "policy_hash": "a"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"since": 1.0, "last_call": 2.0, "audit": "failed", "audit_lag": 5}, ""),
        ({"version": "2"}, "version differs: 1 on u; 2 on name (v)"),
        ({"plugins": {"rooms": "3"}}, "plugins differs: rooms 2 on u; rooms 3 on name (v)"),
        ({"policy_hash": "b"}, "policy_hash differs: a on u; b on name (v)"),
        ({"not_ready": "draining"}, "name (v): is not ready: draining"),
        ({"silent": "down", "version": "", "plugins": {}, "policy_hash": ""}, "name (v): down"),
    ],
)
def test_what_differs_is_named(change: dict[str, Any], said: str) -> None:
    other = Member("v", **{"instance": "name", **ALIKE, **change})
    assert differences([Member("u", **ALIKE), other]) == [said] * bool(said)


def test_an_older_server_without_a_name_is_shown(running_server: live_server.Running) -> None:
    document = running_server.operator("/status").json
    del document["instance"]
    assert member_of("u", json.dumps(document).encode()).name == "u"


@pytest.mark.parametrize(
    "url",
    [
        "http://h:1?a",
        "http://[::1",
        "policy-1:9107",
        "https://u:p@host",
        "http://host:99999",
        "http://host/fleet",
        "",
    ],
)
def test_the_address_of_a_server_is_a_url(tmp_path: Path, url: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[fleet]\nservers = [{json.dumps(url)}]\n")
    with pytest.raises(ConfigError, match=r"fleet\.servers"):
        load(config)


def test_a_check_names_a_token_in_clear_and_an_authority_that_is_none(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    servers = '"http://192.0.2.1:9107", "http://127.0.0.1:9107", "https://192.0.2.1:9107"'
    config.write_text(f"[fleet]\nservers = [{servers}]\n")
    checked = CliRunner().invoke(main, ["check", "--config", str(config)])
    assert checked.exit_code == 0
    assert checked.stderr.count("fleet.servers") == checked.stderr.count("in clear") == 1
    config.write_text(config.read_text() + 'ca_file = "config.toml"\n')
    refused = CliRunner().invoke(main, ["check", "--config", str(config)])
    assert (refused.exit_code, "fleet.ca_file" in refused.stderr) == (78, True)
    assert "fleet.ca_file" in status(config).stderr


def test_the_admin_listener_has_the_certificate_of_the_server(tmp_path: Path) -> None:
    ca, port = trustme.CA(), free_port()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    pair = ca.issue_cert("127.0.0.1")
    pair.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pair.pem"))
    config = configured(tmp_path, 0, [port])
    text = config.read_text().replace("http:", "https:").replace("[admin]", "[admin]\ntls = true")
    config.write_text(
        text.replace("[fleet]", '[fleet]\nca_file = "../ca.pem"')
        + '[tls]\ncertificate = "../pair.pem"\nkey = "../pair.pem"\nclient_ca = "../ca.pem"\n'
    )
    with live_server.running(config, own_admin_port=True) as server:
        assert server.admin.startswith("https:")
        assert status(config).exit_code == 0
        for command in ("status", "healthcheck"):
            assert CliRunner().invoke(main, [command, "--config", str(config)]).exit_code == 0
        # A renewed certificate is that of both listeners, without a reload.
        listeners = [("127.0.0.1", one) for one in (port, server.port)]
        before = [*map(ssl.get_server_certificate, listeners)]
        assert before[0] == before[1]
        renewed = ca.issue_cert("127.0.0.1")
        renewed.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pair.pem"))
        text = renewed.cert_chain_pems[0].bytes().decode()
        wait_until(lambda: ssl.get_server_certificate(listeners[0]).strip() == text.strip())
        wait_until(lambda: ssl.get_server_certificate(listeners[1]).strip() == text.strip())
        assert status(config).exit_code == 0
        config.write_text(config.read_text().replace('ca_file = "../ca.pem"', ""))
        assert "not trusted" in status(config).stderr
    config.write_text("[admin]\ntls = true\n")
    with pytest.raises(ConfigError, match="needs a certificate"):
        load(config)
