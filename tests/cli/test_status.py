"""`pexpolicy status`, as an operator calls it."""

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pexpolicy.cli.main import main
from pexpolicy.cli.status import _is_same
from pexpolicy.cli.status_display import lasting, show_status
from tests.support import doc_pages, live_server, wire

TOKEN = "TEST_STATUS_TOKEN"


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["status", *map(str, arguments)], env={"COLUMNS": "160"})


@pytest.fixture
def told(running_server: live_server.Running) -> Any:
    running_server.ask(wire.SERVICE)
    document: dict[str, Any] = running_server.operator("/status").json
    return document


def test_the_status_of_a_server_that_runs(running_server: live_server.Running) -> None:
    running_server.ask(f"{wire.SERVICE}?local_alias=engineering&node_ip=10.44.7.5")
    running_server.ask("/policy/v1/policy/v1/service/configuration")
    shown = invoked("--url", running_server.admin)
    assert shown.exit_code == 0, shown.output
    for said in ("ready, since", "10.44.7.5", "unknown path", "rooms", "(", "late by"):
        assert said in shown.stdout
    assert "has not called for" not in shown.stdout
    told = json.loads(invoked("--url", running_server.admin, "--json").stdout)
    assert told["config"]["hash"] in shown.stdout
    silent = invoked("--url", running_server.admin, "--silent", "0")
    assert "10.44.7.5 has not called for" in silent.stdout


def settled(text: str) -> str:
    """Text without numbers, and without the width of its tables."""
    return re.sub(r"[ \n]+", " ", re.sub(r"\d+", "0", doc_pages.normalize(text))).strip()


def test_the_page_shows_what_is_printed(tmp_path: Path) -> None:
    page = live_server.ROOT / "docs" / "observability.md"
    with live_server.running(live_server.with_audit(live_server.SHIPPED, tmp_path)) as server:
        for alias in ("engineering", "sales"):
            server.ask(f"{wire.SERVICE}?local_alias={alias}&node_ip=10.44.7.5")
        server.ask(f"{wire.PARTICIPANT}?node_ip=10.44.7.5")
        server.ask(f"{wire.REGISTRATION}alice@example.com?node_ip=10.44.7.6")
        server.ask("/policy/v1/policy/v1/service/configuration")
        said = invoked("--url", server.admin).stdout
    shown = said.replace(str(tmp_path / "config.toml"), "/etc/pexpolicy/config.toml")
    assert settled(doc_pages.block(page, "text")) == settled(shown)


def test_the_page_explains_each_key_of_the_document(told: Any) -> None:
    cells = [
        row
        for row in doc_pages.rows(live_server.ROOT / "docs" / "observability.md")
        if len(row) == 2
    ]
    explained = {key for row in cells for key in row[0].split(", ")}
    assert told.keys() == explained & told.keys()
    text = " ".join(row[1] for row in cells)
    for part in (told["config"], told["audit"], told["plugins"][0], told["nodes"][0]):
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


def test_no_proxy_of_the_environment_is_told_the_token(
    running_server: live_server.Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.0)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert invoked("--url", running_server.admin).exit_code == 0
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_the_wrong_port_is_told(running_server: live_server.Running) -> None:
    shown = invoked("--url", running_server.url)
    assert shown.exit_code == 1
    assert "it answers 404: the listener for operators is at admin.port" in shown.stderr


def test_another_server_at_the_same_address_is_told(tmp_path: Path) -> None:
    config = live_server.with_audit(live_server.SHIPPED, tmp_path)
    with live_server.running(config) as server:
        admin = f"[admin]\nport = {server.admin.rpartition(':')[2]}\n"
        other = tmp_path / "other.toml"
        other.write_text(admin)
        shown = invoked("--config", other)
        assert shown.exit_code == 0
        assert shown.stderr == (
            f"note: {server.admin} is a server with the configuration {config}, "
            f"not with {other}: give each an [admin] port of its own\n"
        )
        assert invoked("--config", other, "--url", server.admin).stderr == ""
        config.write_text(config.read_text() + admin)
        assert invoked("--config", config).stderr == ""


@pytest.mark.parametrize(
    ("theirs", "same"),
    [
        ("config.toml", True),
        ("./config.toml", True),
        ("../here/config.toml", True),
        ("bookings.toml", False),
        ("elsewhere/config.toml", False),
        ("/elsewhere/config.toml", False),
    ],
)
def test_a_relative_path_of_a_server_is_compared_as_far_as_it_goes(
    theirs: str, *, same: bool, tmp_path: Path
) -> None:
    assert _is_same(tmp_path / "here" / "config.toml", theirs) is same


def test_no_server_and_no_configuration_are_told_apart(tmp_path: Path) -> None:
    nobody = invoked("--url", "http://127.0.0.1:1")
    assert nobody.exit_code == 1
    assert nobody.stderr == "http://127.0.0.1:1: nobody listens there\n"
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
    assert asked.stderr == f"note: {config} cannot be read, so that no token is sent\n"
    others = {"healthcheck": "--url http://127.0.0.1:8000", "audit tail": "--file"}
    for command, instead in others.items():
        said = CliRunner().invoke(main, [*command.split(), "--config", str(config)])
        assert said.exit_code == 78
        assert " without it: " in said.stderr.splitlines()[-1]
        assert instead in said.stderr


def test_what_is_wrong_is_said(told: Any, capsys: pytest.CaptureFixture[str]) -> None:
    told |= {"ready": False, "unready": ["draining"], "workers": 3}
    told["config"] |= {"last_reload_successful": False, "problems": ["plugins.rooms: \x1b[31m"]}
    told["audit"] |= {
        "status": "failed",
        "problem": "no space left",
        "lost": 4,
        "free_bytes": 2**31,
    }
    told["certificate"] = {"not_after": 1_800_000_000.0, "problem": "another name"}
    told["plugins"][0] |= {
        "mode": "shadow",
        "breaker_open": True,
        "has_calls_that_do_not_come_back": True,
        "problem": "its status failed",
        "status": {"targets": ["a", 1], "text": "\x1b[2J"},
    }
    told["nodes"] = [
        {
            "node": "10.0.0.1",
            "age": None,
            "calls": 0,
            "last_refused": 1_700_000_000.0,
            "refused_because": "unauthorised",
        },
        {
            "node": "10.0.0.2",
            "age": 9000.0,
            "calls": 5,
            "last_refused": None,
            "refused_because": None,
        },
    ]
    show_status(told, 3600.0)
    shown = " ".join(capsys.readouterr().out.split())
    for said in (
        *("not ready: draining", "3 processes", "the last reload was refused plugins.rooms"),
        *("failed, 4 lost, 2.0 GiB free, no space left", "another name", "valid until 2027"),
        *("its circuit breaker is open", "shadow", '["a", 1]', "its status failed"),
        "10.0.0.1 was never answered (unauthorised): compare user and password of its profile in",
        "10.0.0.2 has not called for 2 h 30 min: is its URL still this server?",
    ):
        assert said in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("because", "hint"),
    [
        ("network not allowed", "is it missing in [access] networks?"),
        ("no tls", "does its profile begin with https://, and does it trust the certificate?"),
        ("unauthorised", "compare user and password of its profile in Infinity"),
        ("too many attempts", "compare user and password of its profile in Infinity"),
        ("unknown path", "compare the URL of its profile in Infinity"),
        ("malformed", "compare its profile in Infinity"),
    ],
)
def test_a_node_that_is_only_refused_comes_with_the_place_to_look_at(
    told: Any, capsys: pytest.CaptureFixture[str], because: str, hint: str
) -> None:
    node = {"node": "10.0.0.1", "age": None, "calls": 0, "last_refused": 1.7e9}
    told["nodes"] = [node | {"refused_because": because}]
    show_status(told, 3600.0)
    shown = " ".join(capsys.readouterr().out.split())
    assert f"10.0.0.1 was never answered ({because}): {hint}" in shown


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")],
)
def test_a_duration_is_said_in_the_units_that_count(seconds: float, said: str) -> None:
    assert lasting(seconds) == said
