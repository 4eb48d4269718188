"""The command line: exit codes, what is said on which stream, and that nothing is half-started."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pexpolicy.cli import main
from pexpolicy.explain import NotARequestError
from tests import certificates, live, wire

ANYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens there, that is the point
WRONG = """
[server]
prot = 8000
budget = 9.0
[plugins.romms]
[plugins.rooms]
on_error = "skp"
"""
UNKNOWN_ROOM_FIELD = """
[plugins.rooms.settings.rooms.sales]
name = "Sales"
pni = "1234"
[plugins.romms]
[plugins.domains.settings]
allowd = []
"""

DOES_NOT_OPEN = """
from contextlib import asynccontextmanager
from pexpolicy import hookimpl

class Down:
    @hookimpl
    @asynccontextmanager
    async def lifespan(self):
        raise ConnectionError("db down")
        yield

    @hookimpl
    def service_configuration(self, request):
        return None
"""


def invoked(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def written(folder: Path, text: str) -> str:
    path = folder / "config.toml"
    path.write_text(text)
    return str(path)


def test_a_valid_configuration_is_told_with_its_warnings() -> None:
    result = invoked("check", "--config", str(live.SHIPPED))
    assert result.exit_code == 0
    assert "config.toml: valid" in result.stdout
    assert "domains, rooms" in result.stdout
    assert "warning: plugins.rooms.settings.default_room: " in result.stderr
    assert "anybody who can dial in" in result.stderr


def test_all_errors_are_told_at_once_and_the_exit_code_says_so(tmp_path: Path) -> None:
    path = written(tmp_path, WRONG)
    result = invoked("check", "--config", path)
    assert result.exit_code == os.EX_CONFIG == 78
    assert result.stdout == ""
    assert f"{path}: 4 errors" in result.stderr
    for part in ("server.prot", "'port'", "server.budget", "plugins.rooms.on_error", "'skip'"):
        assert part in result.stderr


def test_errors_in_the_settings_of_plugins_are_told_together(tmp_path: Path) -> None:
    result = invoked("check", "--config", written(tmp_path, UNKNOWN_ROOM_FIELD))
    assert result.exit_code == 78
    for part in ("rooms.sales", "pni", "plugins.romms", "'rooms'", "allowd", "'allowed'"):
        assert part in result.stderr
    assert "1234" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [("check",), ("plugins",), ("plugins", "--json"), ("explain", wire.SERVICE), ("serve",)],
)
def test_every_command_refuses_a_wrong_configuration(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    result = invoked(*arguments, "--config", written(tmp_path, WRONG))
    assert result.exit_code == 78
    assert "4 errors" in result.stderr


def test_a_plugin_that_does_not_open_is_told_alike_by_all_who_open_it(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "down.py").write_text(DOES_NOT_OPEN)
    (tmp_path / "cases.toml").write_text(f'[[case]]\nname = "any"\nurl = "{wire.SERVICE}"\n')
    text = 'plugin_dirs = ["drop"]\n[audit]\npath = "a.jsonl"\n[plugins.down]\n'
    config = written(tmp_path, text)
    asked = (
        ("explain", wire.SERVICE),
        ("test", str(tmp_path / "cases.toml")),
        ("serve", "--port", "0"),
    )
    for arguments in asked:
        result = invoked(*arguments, "--config", config)
        assert result.exit_code == os.EX_TEMPFAIL == 75, result.output
        assert "db down" in result.stderr
        assert "1 error" in result.stderr


def test_a_missing_file_is_told_by_its_name(tmp_path: Path) -> None:
    result = invoked("check", "--config", str(tmp_path / "missing.toml"))
    assert result.exit_code == 78
    assert "missing.toml" in result.stderr


def test_the_configuration_may_be_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEXPOLICY_CONFIG", written(tmp_path, "[server]\nport = 1"))
    assert "no plugins" in invoked("check").stdout


def test_plugins_are_listed_in_the_order_in_which_they_are_asked() -> None:
    listed = json.loads(invoked("plugins", "--json", "--config", str(live.SHIPPED)).stdout)
    assert listed["order"] == {
        "service_configuration": ["rooms"],
        "participant_properties": [],
        "media_location": [],
        "participant_avatar": [],
        "directory_information": [],
        "registration_alias": ["domains"],
    }
    rows = {row["name"]: row for row in listed["plugins"]}
    assert rows["domains"]["state"] == "active"
    assert rows["domains"]["priority"] == 10
    assert rows["domains"]["on_error"] == "reject"
    assert rows["domains"]["version"] == metadata.version("pexpolicy-domains")
    assert rows["rooms"]["distribution"] == "pexpolicy-rooms"
    assert rows["rooms"]["hooks"] == ["service_configuration"]


def test_an_installed_plugin_that_is_not_configured_is_available(tmp_path: Path) -> None:
    config = written(tmp_path, "[plugins.rooms]")
    listed = json.loads(invoked("plugins", "--json", "--config", config).stdout)
    states = {row["name"]: row["state"] for row in listed["plugins"]}
    assert (states["rooms"], states["domains"]) == ("active", "available")


def test_the_listing_for_people_names_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = invoked("plugins", "--config", str(live.SHIPPED)).stdout
    for part in ("registration_alias", "domains", "rooms", "active", "pexpolicy-rooms"):
        assert part in shown


@pytest.mark.parametrize(
    "target",
    [
        f"{wire.SERVICE}?local_alias=engineering",
        f"{wire.SERVICE}?local_alias=sip%3Asales%40example.com&call_direction=dial_in",
        f"{wire.SERVICE}?local_alias=caf%C3%A9+x%2By",
        f"{wire.SERVICE}?local_alias=a&call_direction=non_dial",
        wire.PARTICIPANT,
        wire.LOCATION,
        f"{wire.DIRECTORY}?q=a",
        f"{wire.REGISTRATION}sip%3Aalice%40example.com",
        f"{wire.REGISTRATION}alice@example.org",
        f"{wire.AVATAR}a%2Bb+c?width=1",
    ],
)
def test_what_is_explained_is_what_is_answered_but_for_the_id(
    running_server: live.Running, target: str
) -> None:
    reply = running_server.ask(target)
    shown = invoked("explain", "--config", str(live.SHIPPED), target)
    assert shown.exit_code == 0
    printed = shown.stdout.splitlines()[-1]
    live_id, explained_id = reply.json["decision_id"], json.loads(printed)["decision_id"]
    assert printed == reply.body.decode().replace(live_id, explained_id)
    assert live_id != explained_id
    assert f"HTTP {reply.status} {reply.headers['content-type']}" in shown.stdout


@pytest.mark.parametrize(
    "pasted",
    [
        "{}",
        "https://policy.example.com:8443{}",
        "https://user:pass@policy.example.com/api/pexip{}",
        "GET {} HTTP/1.1",
        '2026-01-01 Level="INFO" Message="Policy request" URL="https://a.example{}" Timeout="5"',
        " '{}' ",
    ],
)
def test_a_request_may_be_pasted_in_many_forms(pasted: str) -> None:
    target = f"{wire.SERVICE}?local_alias=engineering"
    shown = invoked("explain", "--config", str(live.SHIPPED), pasted.format(target))
    assert shown.exit_code == 0
    assert "Engineering Room" in shown.stdout
    assert "rooms" in shown.stdout
    assert "decided" in shown.stdout


@pytest.mark.parametrize("pasted", ["/", "", "hello", "/policy/v1/registration", wire.AVATAR])
def test_what_is_no_request_is_refused_with_the_paths_there_are(pasted: str) -> None:
    shown = invoked("explain", "--config", str(live.SHIPPED), pasted)
    assert shown.exit_code == 2
    assert wire.SERVICE in shown.stderr
    assert issubclass(NotARequestError, ValueError)


BELOW = "/api/pexip"


@pytest.mark.parametrize(
    ("prefix", "base_path", "right"),
    [
        (BELOW, BELOW, True),
        (f"https://policy.example.com{BELOW}", BELOW, True),
        ("", "", True),
        ("", BELOW, False),
        ("/wrong", BELOW, False),
        (f"https://policy.example.com/wrong{BELOW}", BELOW, False),
        (BELOW, "", False),
    ],
)
def test_a_path_that_the_server_does_not_answer_is_told(
    tmp_path: Path, prefix: str, base_path: str, *, right: bool
) -> None:
    config = written(tmp_path, f'[server]\nbase_path = "{base_path}"\n')
    shown = invoked("explain", "--config", config, f"{prefix}{wire.SERVICE}?local_alias=a")
    assert shown.exit_code == 0
    assert ("the server answers 404 (unknown path)" not in shown.stdout) == right
    assert (f"nodes have to ask {base_path}{wire.SERVICE}." in shown.stdout) == (not right)


def test_a_path_with_the_common_part_twice_is_told_by_its_cause() -> None:
    shown = invoked("explain", "--config", str(live.SHIPPED), f"/policy/v1{wire.SERVICE}")
    assert shown.exit_code == 2
    assert "has /policy/v1 twice" in shown.stderr


def test_a_line_of_the_log_of_a_proxy_may_be_pasted() -> None:
    line = f'192.0.2.1 - - [26/Nov/2026:07:10:28 +0000] "GET {wire.SERVICE}?a=b HTTP/1.1" 200 4'
    assert invoked("explain", "--config", str(live.SHIPPED), line).exit_code == 0


def test_a_sentence_that_is_no_request_is_told_whole() -> None:
    shown = invoked("explain", "--config", str(live.SHIPPED), "Nov 26 07:10 it failed\x1b[2J")
    assert shown.exit_code == 2
    assert "Nov 26 07:10 it failed" in shown.stderr
    assert "\x1b" not in shown.stderr


def test_a_secret_in_a_pasted_request_is_not_shown() -> None:
    target = f"{wire.SERVICE}?local_alias=a&third_party_passcode=48151623"
    shown = invoked("explain", "--config", str(live.SHIPPED), target)
    assert "48151623" not in shown.stdout
    assert "third_party_passcode" in shown.stdout


def test_a_pasted_request_cannot_command_the_terminal() -> None:
    target = f"{wire.SERVICE}?local_alias=%1B%5B2J%07"
    assert "\x1b[2J" not in invoked("explain", "--config", str(live.SHIPPED), target).stdout


def test_a_healthy_server_is_told_from_none(running_server: live.Running) -> None:
    assert invoked("healthcheck", "--url", running_server.url).exit_code == 0
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = f"http://127.0.0.1:{silent.getsockname()[1]}"
    gone = invoked("healthcheck", "--url", nobody)
    assert gone.exit_code == 1
    assert gone.stderr == f"{nobody}: nobody listens there\n"
    assert invoked("healthcheck", "--url", f"{running_server.url}/").exit_code == 0
    elsewhere = invoked("healthcheck", "--url", f"{running_server.url}/nowhere")
    assert elsewhere.exit_code == 1
    assert elsewhere.stderr == f"{running_server.url}/nowhere: it answers 404\n"


@pytest.mark.parametrize("command", ["healthcheck", "status"])
@pytest.mark.parametrize("url", ["nonsense", "ftp://a", "http://", "http://a:x", "http://a b", ""])
def test_what_is_no_url_is_wrong_usage(command: str, url: str) -> None:
    result = invoked(command, "--url", url)
    assert result.exit_code == 2
    assert "is no URL of a server" in result.stderr


def test_health_is_asked_where_the_configuration_says(
    running_server: live.Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (calls, admin) = (url.rpartition(":")[2] for url in (running_server.url, running_server.admin))
    for text in (
        f"[server]\nport = {calls}\n",
        f'[server]\nhost = "0.0.0.0"\nport = {calls}\nallow_anonymous = true\n',
        f'[access]\nnetworks = ["192.0.2.0/24"]\n[admin]\nport = {admin}\n[server]\nport = 1\n',
        f'[tls]\ncertificate = "c"\nkey = "k"\n[admin]\nport = {admin}\n[server]\nport = 1\n',
        f'[server]\nport = {calls}\n[auth]\nuser = "a"\npassword_env = "TEST_NOT_THERE"\n',
    ):
        assert invoked("healthcheck", "--config", written(tmp_path, text)).exit_code == 0, text
    config = written(tmp_path, "[server]\nport = 1\n")
    result = invoked("healthcheck", "--config", config)
    assert result.exit_code == 1
    assert "http://127.0.0.1:1: " in result.stderr
    chosen = invoked("healthcheck", "--config", config, "--url", running_server.url)
    assert chosen.exit_code == 0
    assert invoked("healthcheck", "--config", str(tmp_path / "none.toml")).exit_code == 78
    # An image names a configuration that its health check need not have.
    monkeypatch.setenv("PEXPOLICY_CONFIG", str(tmp_path / "none.toml"))
    assert invoked("healthcheck").exit_code in {0, 1}


def test_health_is_asked_by_tls_where_operators_have_no_listener(tmp_path: Path) -> None:
    certificates.write_pair(tmp_path)
    tls = "".join(f'{key} = "{value}"\n' for key, value in certificates.tls(tmp_path).items())
    (tmp_path / "given.toml").write_text(f"[tls]\n{tls}[admin]\nenabled = false\n")
    config = live.with_audit(tmp_path / "given.toml", tmp_path)
    with live.running(config) as server:
        config.write_text(f"{config.read_text()}[server]\nport = {server.port}\n")
        result = invoked("healthcheck", "--config", str(config))
        assert result.exit_code == 0, result.stderr
        stranger = invoked("healthcheck", "--url", f"https://127.0.0.1:{server.port}")
        plain = invoked("healthcheck", "--url", f"http://127.0.0.1:{server.port}")
    assert "its certificate is not trusted: " in stranger.stderr
    assert "with [tls] its address begins with https://" in plain.stderr


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_door_that_is_shut_before_tls_is_told(*, is_reset: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def shut() -> None:
            with listener.accept()[0] as connection:
                if is_reset:
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                else:
                    connection.recv(10_000)

        thread = threading.Thread(target=shut)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        result = invoked("healthcheck", "--url", url)
        thread.join()
    assert result.exit_code == 1
    assert "it closed the connection: there is no TLS, it wants a client" in result.stderr
    assert "[access] networks" in result.stderr


def test_what_answers_with_something_else_is_told(tmp_path: Path) -> None:
    for said, text in (
        (b"SSH-2.0-x\r\n", "it gives no answer of HTTP"),
        (b"", "it gives no answer of HTTP; with [tls] its address begins with https:"),
        (b"HTTP/1.1 503 x\r\nContent-Length: 9\r\n\r\ndraining\n", "it answers 503: draining"),
    ):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"

            def answer(listener: socket.socket = listener, said: bytes = said) -> None:
                with listener.accept()[0] as connection:
                    connection.recv(1000)
                    connection.sendall(said)

            thread = threading.Thread(target=answer)
            thread.start()
            result = invoked("healthcheck", "--url", url)
            thread.join()
        assert result.exit_code == 1
        assert f"{url}: {text}" in result.stderr


@pytest.mark.parametrize("address", [ANYWHERE, "::", "192.0.2.1", "policy.example.com", ""])
@pytest.mark.parametrize("command", ["check", "serve"])
def test_an_address_that_others_reach_needs_credentials(
    tmp_path: Path, command: str, address: str
) -> None:
    config = written(tmp_path, f'[server]\nhost = "{address}"\nport = 0\n')
    result = invoked(command, "--config", config)
    assert result.exit_code == 78
    assert "server.host" in result.stderr
    assert "allow_anonymous" in result.stderr
    assert "answers on" not in result.stderr


def test_the_address_of_the_command_line_is_held_to_the_same_rule(tmp_path: Path) -> None:
    result = invoked("serve", "--config", written(tmp_path, ""), "--host", ANYWHERE, "--port", "0")
    assert result.exit_code == 78
    assert "allow_anonymous" in result.stderr


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ('auth]\nuser = "pexip"\npassword_file = "gone"', "auth.password_file"),
        ('auth]\nuser = "pexip"\npassword = "x"', "auth.password"),
        ('admin]\nhost = "0.0.0.0"\ntoken_file = "gone"', "admin.token_file"),
    ],
)
def test_what_cannot_be_read_is_not_said_to_be_missing(
    tmp_path: Path, table: str, key: str
) -> None:
    anybody = "true" if table.startswith("admin") else "false"
    text = f'[server]\nhost = "0.0.0.0"\nallow_anonymous = {anybody}\n[{table}\n'
    result = invoked("check", "--config", written(tmp_path, text))
    assert result.exit_code == 78
    assert "config.toml: 1 error\n" in result.stderr
    assert f"  {key}: " in result.stderr


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1", "127.8.9.10"])
def test_loopback_needs_no_credentials(tmp_path: Path, address: str) -> None:
    config = written(tmp_path, f'[server]\nhost = "{address}"\n')
    assert invoked("check", "--config", config).exit_code == 0


def test_an_open_door_that_was_asked_for_is_a_warning(tmp_path: Path) -> None:
    text = '[server]\nhost = "0.0.0.0"\nallow_anonymous = true\n'
    result = invoked("check", "--config", written(tmp_path, text))
    assert result.exit_code == 0
    assert "warning: server.allow_anonymous: " in result.stderr


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        config = written(tmp_path, '[audit]\npath = "audit.jsonl"')
        result = invoked("serve", "--config", config, "--port", port)
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "take another server.port or --port" in result.stderr


@pytest.mark.parametrize(
    "options", [("--port", "9107"), ("--port", "9108", "--admin-port", "9108")]
)
def test_one_port_for_nodes_and_operators_is_told(tmp_path: Path, options: tuple[str, ...]) -> None:
    result = invoked("serve", "--config", written(tmp_path, '[audit]\npath = "a"\n'), *options)
    assert result.exit_code == 78
    assert "admin.port: is server.port too" in result.stderr


def test_a_host_that_nobody_knows_is_told(tmp_path: Path) -> None:
    text = '[server]\nhost = "policy.invalid"\nallow_anonymous = true\n[audit]\npath = "a"\n'
    result = invoked("serve", "--config", written(tmp_path, text), "--admin-port", "0")
    assert result.exit_code == 1
    assert "cannot listen on policy.invalid:8000: the name " in result.stderr


@pytest.mark.parametrize("port", ["abc", "-1", "65536"])
def test_what_is_no_port_is_told(port: str) -> None:
    result = invoked("serve", f"--port={port}")
    assert result.exit_code == 2
    assert f"'{port}' is no port: write a number from 0 to 65535" in result.stderr


def test_an_audit_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    config = written(tmp_path, '[audit]\npath = "missing/audit.jsonl"')
    result = invoked("serve", "--config", config, "--port", "0")
    assert result.exit_code == 78
    assert "audit.path" in result.stderr


def test_the_program_tells_its_version_and_its_commands() -> None:
    assert metadata.version("pexpolicy") in invoked("--version").stdout
    shown = invoked("--help").stdout
    for command in ("serve", "check", "plugins", "explain", "healthcheck"):
        assert command in shown


def test_no_command_imports_what_only_another_one_needs() -> None:
    looks = (
        "import sys, pexpolicy.cli; print([m for m in ('PIL', 'aiohttp.web') if m in sys.modules])"
    )
    done = subprocess.run(
        (sys.executable, "-c", looks), capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "[]\n"
