"""`pexpolicy status`, as an operator calls it."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pexpolicy.cli.main import main
from pexpolicy.cli.status import degradations, show_status
from tests.support import doc_pages, live_server, tls_server, wire

TOKEN = "TEST_STATUS_TOKEN"


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["status", *map(str, arguments)], env={"COLUMNS": "160"})


@pytest.fixture
def document(running_server: live_server.Running) -> Any:
    running_server.ask(wire.SERVICE)
    document: dict[str, Any] = running_server.operator("/status").json
    return document


def test_the_status_of_a_server_that_runs(running_server: live_server.Running) -> None:
    running_server.ask(f"{wire.SERVICE}?local_alias=engineering&node_ip=10.44.7.5")
    running_server.ask("/policy/v1/policy/v1/service/configuration")
    shown = invoked("--url", running_server.admin)
    assert shown.exit_code == 0, shown.output
    for said in ("ready, up ", "10.44.7.5", "unknown path", "rooms", "(", "max lag "):
        assert said in shown.stdout
    assert "no call for" not in shown.stdout
    document = json.loads(invoked("--url", running_server.admin, "--json").stdout)
    assert document["config"]["policy_hash"] in shown.stdout


def test_the_page_explains_each_key_of_the_document(document: Any) -> None:
    cells = [
        row
        for row in doc_pages.rows(live_server.ROOT / "docs" / "observability.md")
        if len(row) == 2
    ]
    explained = {key for row in cells for key in row[0].split(", ")}
    assert document.keys() == explained & document.keys()
    text = " ".join(row[1] for row in cells)
    for part in (
        document["config"],
        document["audit"],
        document["plugins"][0],
        document["nodes"][0],
    ):
        assert all(key in text for key in part)


def test_the_address_and_the_token_come_from_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {TOKEN: "a token", "TEST_STATUS_PASSWORD": "a password"}
    (tmp_path / "given.toml").write_text(
        f'[admin]\ntoken_env = "{TOKEN}"\n'
        '[auth]\nuser = "pexip"\npassword_env = "TEST_STATUS_PASSWORD"\n'
    )
    config = live_server.with_audit(tmp_path / "given.toml", tmp_path)
    with live_server.running(config, environment=secrets) as server:
        # The password is the server's alone: the operator's shell does not have it.
        port = server.admin.rpartition(":")[2]
        config.write_text(config.read_text().replace("[admin]", f"[admin]\nport = {port}"))
        refused = invoked("--config", config)
        assert refused.exit_code == 1
        assert "401" in refused.stderr
        monkeypatch.setenv(TOKEN, "a token")
        assert invoked("--config", config).exit_code == 0


def test_no_proxy_of_the_environment_gets_the_token(
    running_server: live_server.Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.0)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert invoked("--url", running_server.admin).exit_code == 0
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_another_server_at_the_same_address_is_reported(tmp_path: Path) -> None:
    config = live_server.with_audit(live_server.SHIPPED, tmp_path)
    with live_server.running(config) as server:
        admin = f"[admin]\nport = {server.admin.rpartition(':')[2]}\n"
        other = tmp_path / "other.toml"
        other.write_text(admin)
        shown = invoked("--config", other)
        assert shown.exit_code == 0
        assert shown.stderr == (
            f"note: {server.admin} is a server with the configuration {config}, not with {other}\n"
        )
        assert invoked("--config", other, "--url", server.admin).stderr == ""
        config.write_text(config.read_text() + admin)
        assert invoked("--config", config).stderr == ""


def test_no_server_and_no_configuration_are_distinguished(tmp_path: Path) -> None:
    nobody = invoked("--url", "http://127.0.0.1:1")
    assert nobody.exit_code == 1
    assert nobody.stderr == "http://127.0.0.1:1: nothing listens there\n"
    assert invoked("--config", tmp_path / "none.toml").exit_code == 78


def test_a_broken_configuration_says_how_to_ask_without_it(
    running_server: live_server.Running, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[server\n")
    refused = invoked("--config", config)
    assert refused.exit_code == 78
    assert refused.stderr.endswith(
        "\na server can be asked without it: pexpolicy status --url http://127.0.0.1:9107\n"
    )
    asked = invoked("--config", config, "--url", running_server.admin)
    assert asked.exit_code == 0, asked.output
    assert asked.stderr == ""
    others = {
        "healthcheck": "without it: pexpolicy healthcheck --url http://127.0.0.1:8000",
        "audit tail": "without it: --file",
    }
    for command, instead in others.items():
        said = CliRunner().invoke(main, [*command.split(), "--config", str(config)])
        assert said.exit_code == 78
        assert instead in said.stderr.splitlines()[-1]


HIDDEN = "[link=http://192.0.2.1]x[/link] [/] [conceal]y"
DOWN = "OSError: down"
DATA: dict[str, Any] = {"age": 90.0, "every": 60.0, "problem": DOWN}
JOB: dict[str, Any] = {"every": 3600.0, "once_per": "server", "last_run_age": 5.0, "problem": DOWN}
SOURCE: dict[str, Any] = {
    "name": "people",
    "driver": "ldap",
    "data": {},
    "jobs": {},
    "failures": [],
}
REPORT = {"Scanner": {"hits": 3, "last_hit": None}, HIDDEN: HIDDEN, "text": "\x1b[2J"}


def refused(reason: str, name: str = "10.0.0.1") -> list[dict[str, Any]]:
    node = {"node": name, "age": None, "calls": 0, "last_refused": 1.7e9}
    return [node | {"refused_because": reason}]


@pytest.mark.parametrize(
    ("part", "change", "shown", "degraded"),
    [
        ("not_ready_reasons", ["draining"], "not ready: draining", ""),
        ("workers", 3, "3 workers", ""),
        ("config", {"last_reload_successful": False}, "last reload was refused", "last reload"),
        ("config", {"last_reload_successful": False, "problems": ["a: \x1b[m"]}, "a: ", "reload"),
        (
            "audit",
            {"status": "failed", "problem": "no space left", "lost": 4, "free_bytes": 2**31},
            "failed, 4 lost, 2.0 GiB free, no space left",
            "audit: failed",
        ),
        (
            "certificate",
            {"not_after": 1_800_000_000.0, "problem": "another name"},
            "valid until 2027",
            "certificate: another name",
        ),
        ("plugins", {"mode": "shadow"}, "shadow", ""),
        ("plugins", {"breaker_open": True}, "circuit breaker open", "circuit breaker open"),
        ("plugins", {"has_stuck_calls": True}, "calls are stuck", "calls are stuck"),
        ("plugins", {"problem": HIDDEN}, HIDDEN, HIDDEN),
        (
            "plugins",
            {"data": {"[list]": DATA}},
            '[list]: {"age": 90.0, "every": 60.0',
            f": [list] is not refreshed: {DOWN}",
        ),
        (
            "plugins",
            {"jobs": {"purge": JOB}},
            'job purge: {"every": 3600.0,',
            f": job purge failed: {DOWN}",
        ),
        ("plugins", {"failures": ["its task poll ended: E"]}, "poll ended: E", ": its task poll"),
        ("plugins", {"latency": {"mean": 1.5, "p99": None}}, "1500.00 > 5000", ""),
        ("plugins", {"status": REPORT}, 'Scanner: {"hits": 3, "last_hit": null}', ""),
        ("plugins", {"status": REPORT}, f"{HIDDEN}: {HIDDEN}", ""),
        (
            "sources",
            [SOURCE | {"data": {"all": {"age": None, "every": 60.0, "problem": None}}}],
            'people all: {"age": null,',
            "",
        ),
        (
            "sources",
            [SOURCE | {"failures": ["it ended"]}],
            "source people: it ended",
            "source people: it ended",
        ),
        ("nodes", refused("unauthorised", "[/]"), "[/] never 0 ", ""),
    ],
)
def test_what_a_server_reports_is_shown(
    document: Any,
    capsys: pytest.CaptureFixture[str],
    part: str,
    change: Any,
    shown: str,
    degraded: str,
) -> None:
    assert degradations(document) == []
    place = document[part]
    if isinstance(change, dict) and place:
        (place[0] if isinstance(place, list) else place).update(change)
    else:
        document[part] = change
    document["ready"] = part != "not_ready_reasons"
    show_status(document)
    out = capsys.readouterr().out
    assert shown in " ".join(out.split())
    assert "\x1b" not in out
    assert [degraded in text for text in degradations(document)] == [True] * bool(degraded)


def test_a_refused_reload_is_exit_code_1(tmp_path: Path) -> None:
    config = live_server.with_audit(live_server.SHIPPED, tmp_path)
    with live_server.running(config) as server:
        assert invoked("--url", server.admin, "--strict").exit_code == 0
        config.write_text("[server\n")
        assert CliRunner().invoke(main, ["reload", "--config", str(config)]).exit_code == 78
        assert invoked("--url", server.admin).exit_code == 1
        strict = invoked("--url", server.admin, "--strict")
    assert strict.exit_code == 1
    assert "degraded: the last reload was refused" in strict.stderr


@pytest.mark.parametrize("body", [b'{"ready": true}', b'{"config": 1}', b"[" * 100_000])
def test_the_document_of_another_program_is_no_status(
    body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_server.serving(tmp_path, body) as (url, cacert):
        monkeypatch.setenv("SSL_CERT_FILE", str(cacert))
        shown = invoked("--url", url)
    assert (shown.exit_code, "is not the status of a server" in shown.stderr) == (1, True)


def test_the_status_over_tls_is_requested_with_its_ca(
    tmp_path: Path, document: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_server.serving(tmp_path, json.dumps(document).encode()) as (url, cacert):
        untrusted = invoked("--url", url)
        assert untrusted.exit_code == 1
        assert "its certificate is not trusted" in untrusted.stderr
        assert "name its CA in SSL_CERT_FILE" in untrusted.stderr
        monkeypatch.setenv("SSL_CERT_FILE", str(cacert))
        assert invoked("--url", url).exit_code == 0
