"""The command line: exit codes, what is said on which stream, and that nothing is half-started."""

import json
import os
import socket
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pexpolicy.cli.main import main
from tests.support import forked, live_server, wire
from tests.support.server_process import free_port

ANYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens there, that is the point
PUBLIC = '[server]\nhost = "0.0.0.0"\nallow_anonymous = '
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


def test_a_valid_configuration_is_reported_with_its_warnings() -> None:
    result = invoked("check", "--config", str(live_server.SHIPPED))
    assert result.exit_code == 0
    assert "config.toml: valid" in result.stdout
    assert "domains, rooms" in result.stdout
    assert "warning: plugins.rooms.settings.default_room: " in result.stderr
    assert "anybody who can dial in" in result.stderr


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


def test_a_plugin_that_does_not_start_is_reported_alike_by_all_commands(tmp_path: Path) -> None:
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


def test_the_configuration_may_be_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEXPOLICY_CONFIG", written(tmp_path, "[server]\nport = 1"))
    assert "no plugins" in invoked("check").stdout


def test_plugins_are_listed_in_the_order_in_which_they_are_asked() -> None:
    listed = json.loads(invoked("plugins", "--json", "--config", str(live_server.SHIPPED)).stdout)
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
    assert rows["rooms"]["hooks"][:2] == ["service_configuration", "lifespan"]
    assert listed["other_hooks"]["config_warnings"] == ["domains", "rooms"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WRONG, ("4 errors", "server.prot", "'port'", "server.budget", "rooms.on_error", "'skip'")),
        (
            UNKNOWN_ROOM_FIELD,
            ("rooms.sales", "pni", "plugins.romms", "'rooms'", "allowd", "'allowed'"),
        ),
        *(
            (f'[server]\nhost = "{address}"\nport = 0\n', ("server.host", "allow_anonymous"))
            for address in (ANYWHERE, "::", "192.0.2.1", "policy.example.com")
        ),
        (f'{PUBLIC}false\n[auth]\nuser = "a"\npassword_file = "gone"', ("auth.password_file: ",)),
        (f'{PUBLIC}false\n[auth]\nuser = "a"\npassword = "x"', ("auth.password: ",)),
        (f'{PUBLIC}true\n[admin]\nhost = "0.0.0.0"\ntoken_file = "gone"', ("admin.token_file: ",)),
    ],
)
def test_all_errors_are_reported_at_once_by_check_and_serve(
    tmp_path: Path, text: str, said: tuple[str, ...]
) -> None:
    path = written(tmp_path, text)
    for command in (("check",), ("serve", "--port", "0")):
        result = invoked(*command, "--config", path)
        assert (result.exit_code, result.stdout) == (os.EX_CONFIG, "")
        assert f"{path}: " in result.stderr
        assert [part for part in said if part not in result.stderr] == []
        assert not {"1234", "answers on"} & set(result.stderr.split())


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        *(
            (f'[server]\nhost = "{address}"\n', False)
            for address in ("127.0.0.1", "localhost", "::1", "127.8.9.10")
        ),
        (f"{PUBLIC}true\n", True),
    ],
)
def test_access_for_all_is_a_warning_and_loopback_is_not(
    tmp_path: Path, text: str, warned: bool
) -> None:
    result = invoked("check", "--config", written(tmp_path, text))
    assert result.exit_code == 0
    assert ("warning: server.allow_anonymous: " in result.stderr) is warned


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--host", ANYWHERE, "--port", "0"), 78, "allow_anonymous"),
        (("--port", "9107"), 78, "is already server.port; choose another"),
        (("--port", "9108", "--admin-port", "9108"), 78, "is already server.port"),
        *((f"--port={port}".split(), 2, "--port") for port in ("abc", "-1", "65536")),
    ],
)
def test_wrong_options_of_serve_are_reported(
    tmp_path: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    result = invoked("serve", "--config", written(tmp_path, '[audit]\npath = "a"\n'), *options)
    assert (result.exit_code, said in result.stderr) == (code, True)


def test_a_file_that_is_missing_is_reported_by_its_key_or_name(tmp_path: Path) -> None:
    config = written(tmp_path, '[audit]\npath = "missing/audit.jsonl"')
    for arguments, said in (
        (("serve", "--config", config, "--port", "0"), "audit.path"),
        (("check", "--config", str(tmp_path / "missing.toml")), "missing.toml"),
    ):
        result = invoked(*arguments)
        assert (result.exit_code, said in result.stderr) == (78, True)


def test_an_address_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        config = written(tmp_path, '[audit]\npath = "audit.jsonl"')
        result = invoked("serve", "--config", config, "--port", port)
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "another port" in result.stderr
    assert not (tmp_path / "audit.jsonl").exists()
    text = '[server]\nhost = "policy.invalid"\nallow_anonymous = true\n[audit]\npath = "a"\n'
    result = invoked("serve", "--config", written(tmp_path, text), "--admin-port", "0")
    assert result.exit_code == 1
    assert "cannot listen on policy.invalid:8000: the name " in result.stderr


def test_the_address_is_named_that_another_process_takes_meanwhile(tmp_path: Path) -> None:
    port = str(free_port())
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "early.py").write_text(EARLY.replace("PORT", port))
    text = '[audit]\npath = "audit.jsonl"\n[plugins.early]\n'
    config = written(tmp_path, f'plugin_dirs = ["plugins"]\n{text}')
    result = invoked("serve", "--config", config, "--port", "0", "--admin-port", port)
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr


EARLY = """
import contextlib, socket
from pexpolicy import hookimpl


class Early:
    @hookimpl
    @contextlib.asynccontextmanager
    async def lifespan(self):
        with socket.create_server(("127.0.0.1", PORT)):
            yield
"""


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_observers_and_available_plugins_are_listed(tmp_path: Path, isolation: str) -> None:
    (tmp_path / "counter.py").write_text(
        "from pexpolicy import Plugin\n"
        "class Counter(Plugin):\n"
        "    async def on_decision(self, outcome):\n"
        "        pass\n"
    )
    text = f'plugin_dirs = ["."]\n[plugins.counter]\nisolation = "{isolation}"\n'
    config = written(tmp_path, text)
    listed = json.loads(invoked("plugins", "--json", "--config", config).stdout)
    assert listed["other_hooks"] == {"on_decision": ["counter"]}
    rows = {row["name"]: row for row in listed["plugins"]}
    assert rows["counter"]["hooks"] == ["on_decision"]
    assert (rows["counter"]["state"], rows["domains"]["state"]) == ("active", "available")
    assert "on_decision" in invoked("plugins", "--config", config).stdout


@pytest.mark.parametrize(
    ("start", "stays"),
    [
        ("self.thread = Thread(target=Event().wait, name='stays'); self.thread.start()", True),
        ("self.threads = ThreadPoolExecutor(1); self.threads.submit(len, ()).result()", False),
    ],
)
def test_a_thread_of_a_plugin_does_not_keep_a_command_running(
    tmp_path: Path, start: str, stays: bool
) -> None:
    (tmp_path / "stay.py").write_text(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from threading import Event, Thread\n"
        "from pexpolicy import hookimpl\n"
        "class Stay:\n"
        "    def __init__(self, settings):\n"
        f"        {start}\n"
        "    @hookimpl\n"
        "    async def service_configuration(self): pass\n"
    )
    config = written(tmp_path, 'plugin_dirs = ["."]\n[plugins.stay]\n')
    done = forked.run("check", "--config", config)
    assert done.returncode == 0
    assert "config.toml: valid (stay; " in done.stdout
    assert ("did not stop in time: stays" in done.stderr) is stays
