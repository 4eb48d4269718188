"""A configuration that changes while a server answers."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from pexpolicy.server import reload_triggers
from pexpolicy.server.reload_triggers import ReloadResult, ask_for_reload
from tests.support import forked, live_server, wire
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

ROOM = f"{wire.SERVICE}?local_alias=room"


def written(name: str, also: str = "") -> str:
    """A configuration whose only room has this name."""
    return f"""
{also}
[audit]
path = "audit.jsonl"
[plugins.rooms.settings.rooms.room]
name = "{name}"
service_tag = "{name}"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live_server.Running]:
    path = tmp_path_factory.mktemp("reload") / "config.toml"
    path.write_text(written("first"))
    with live_server.running(path) as running:
        yield running


@pytest.fixture
def config(server: live_server.Running) -> Path:
    """Its configuration, as it was at the start."""
    path = server.audit.with_name("config.toml")
    path.write_text(written("first"))
    assert reloaded(path).done
    return path


def reloaded(config: Path) -> ReloadResult:
    (result,) = ask_for_reload(config)
    assert result is not None
    return result


def command(name: str, config: Path) -> subprocess.CompletedProcess[str]:
    return forked.run(name, "--config", str(config))


def served(server: live_server.Running) -> str:
    return str(server.ask(ROOM).result["name"])


def test_the_command_puts_a_new_configuration_in_force(
    config: Path, server: live_server.Running
) -> None:
    assert served(server) == "first"
    config.write_text(written("second"))
    said = command("reload", config)
    assert said.returncode == 0, said.stderr
    assert served(server) == "second"
    lines = server.lines()
    before, after = [one["policy_hash"] for one in lines if one["event"] == "decision"][-2:]
    # The change of the file may be noticed before the command.
    reloads = [one for one in lines if one["event"] == "reload" and one["accepted"]]
    assert (before, after) in [(one["policy_hash_before"], one["policy_hash"]) for one in reloads]
    assert before != after
    assert after in said.stdout
    assert after in command("check", config).stdout


def test_a_bad_configuration_fails_the_command_and_changes_nothing(
    config: Path, server: live_server.Running
) -> None:
    config.write_text(written("second") + "\n[plugins.rooms]\nprioritty = 1\ntimeout = 99.0\n")
    said = command("reload", config)
    assert said.returncode == 78
    assert "plugins.rooms.prioritty: unknown key; did you mean 'priority'?" in said.stderr
    assert "plugins.rooms.timeout" in said.stderr
    assert "stays active" in said.stderr
    assert served(server) == "first"
    config.write_text(written("third"))
    assert reloaded(config).done
    assert served(server) == "third"


def test_a_finding_of_many_rooms_is_logged_once_and_on_one_line(tmp_path: Path) -> None:
    config, log = tmp_path / "config.toml", list[str]()
    config.write_text(written("first"))
    table = '[plugins.rooms.settings.rooms.r{0}]\nname = "R{0}"\n{1}'
    with live_server.running(config, log=log):
        for entry in ('pin = "4711"\n', "pni = 1\n"):
            config.write_text(written("first") + "".join(table.format(n, entry) for n in range(40)))
            results = [reloaded(config) for _ in range(2)]
            assert all(len(result.problems) == (not result.done) for result in results)
    found = [line.partition("settings.rooms.")[2] for line in log if "40 times (lines " in line]
    assert [text.partition(":")[0] for text in found] == ["r0.pin", "r0.pni"]


def test_what_a_reload_changes_is_in_its_result_and_in_the_status(
    config: Path, server: live_server.Running
) -> None:
    config.write_text(written("first"))
    assert reloaded(config).done
    config.write_text(written("second", "[server]\nbudget = 3.0"))
    changes = list(reloaded(config).changes)
    assert changes[0] == "configuration: changed plugins.rooms.settings.rooms, server.budget"
    assert server.operator("/status").json["config"]["changes"] == changes
    shown = CliRunner().invoke(main, ["status", "--url", server.admin])
    assert changes[0] in " ".join(shown.stdout.split())


def test_what_waits_for_a_restart_is_in_the_status(
    config: Path, server: live_server.Running
) -> None:
    assert server.operator("/status").json["config"]["restart_required"] == []
    moved = written("second", "[server]\nport = 1234\n[limits]\nconnections = 99\n").replace(
        "audit.", "b."
    )
    config.write_text(moved)
    assert reloaded(config).done
    told = server.operator("/status").json["config"]
    assert told["last_reload_successful"]
    assert told["restart_required"] == ["server.port", "limits.connections", "audit.path"]
    shown = CliRunner().invoke(main, ["status", "--url", server.admin])
    assert "restart required: server.port, limits.connections, audit.path" in shown.stdout
    config.write_text(written("third"))
    assert reloaded(config).done
    assert server.operator("/status").json["config"]["restart_required"] == []


def test_without_a_server_the_command_says_so(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(written("first"))
    said = command("reload", config)
    assert said.returncode == 1
    assert "no server runs with this configuration" in said.stderr


def test_a_socket_that_a_killed_server_left_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(written("first"))
    # The path of a socket has at most 107 bytes, and that of a test's folder may have more.
    with tempfile.TemporaryDirectory() as short:
        folder = Path(short)
        monkeypatch.setenv("RUNTIME_DIRECTORY", short)
        with live_server.running(config) as server:
            (socket,) = folder.iterdir()
            assert socket.stat().st_mode & 0o777 == 0o600
            os.kill(server.pid, signal.SIGKILL)
            wait_until(lambda: ask_for_reload(config) == [])
        assert not list(folder.iterdir())


async def unused(*_: str) -> ReloadResult:
    raise AssertionError


async def test_where_nothing_can_be_written_a_server_has_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    monkeypatch.setattr(reload_triggers, "SERVICE_FOLDER", tmp_path / "missing")
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    config = tmp_path / "config.toml"
    async with reload_triggers.control_socket(config, unused) as is_open:
        assert not is_open
    assert reload_triggers.sockets_of(config) == []


async def test_names_that_are_not_utf_8_are_in_a_result_with_question_marks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = Path("r\udce4ume/config.toml")

    async def reload(*_: str) -> ReloadResult:
        return ReloadResult("0", files=(str(config),), changes=("desks: \udcff",))

    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setenv("RUNTIME_DIRECTORY", short)
        async with reload_triggers.control_socket(config, reload):
            results = await asyncio.to_thread(ask_for_reload, config)
    assert results == [ReloadResult("0", files=("r?ume/config.toml",), changes=("desks: ?",))]


def test_texts_of_plugins_do_not_command_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    told = ReloadResult("0", ("desks",), notes=("desks: \x1b[2J",), changes=("desks: \u202e1",))
    monkeypatch.setattr("pexpolicy.cli.status.ask_for_reload", lambda _: [told])
    said = CliRunner().invoke(main, ["reload"]).output
    assert said.splitlines()[1:] == ["  desks: \ufffd1", "warning: desks: \ufffd[2J"]


async def test_a_folder_of_another_user_is_not_used_for_the_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = tmp_path / "config.toml", tmp_path / "foreign"
    folder.mkdir(mode=0o755)
    other = 65534
    if os.getuid() == 0:
        os.chown(folder, other, other)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 0)
    (folder / f"{reload_triggers.name_of(config)}-1.sock").touch()
    monkeypatch.setattr(reload_triggers, "folders", lambda: [folder])
    assert reload_triggers.sockets_of(config) == []
    # systemd creates the folder of a service, whose user is not root.
    monkeypatch.setattr(reload_triggers, "SERVICE_FOLDER", folder)
    assert len(reload_triggers.sockets_of(config)) == 1
    async with reload_triggers.control_socket(config, unused) as is_open:
        assert not is_open


def by_renaming(config: Path, text: str) -> None:
    other = config.with_suffix(".swp")
    other.write_text(text)
    other.replace(config)


def by_backup(config: Path, text: str) -> None:
    """As some editors do: the old file is renamed away, then a new one is written."""
    config.replace(config.with_suffix(".bak"))
    time.sleep(0.05)
    config.write_text(text)


@pytest.mark.parametrize("save", [Path.write_text, by_renaming, by_backup])
def test_a_file_that_was_saved_is_noticed(
    config: Path, server: live_server.Running, save: Callable[[Path, str], object]
) -> None:
    save(config, written("second"))
    wait_until(lambda: served(server) == "second")


def test_a_mounted_configuration_that_is_swapped_is_noticed(tmp_path: Path) -> None:
    # As Kubernetes mounts a ConfigMap: config.toml -> ..data/config.toml, ..data -> ..2026_1.
    for name in ("first", "second"):
        (tmp_path / f"..{name}").mkdir()
        (tmp_path / f"..{name}" / "config.toml").write_text(written(name))
    (tmp_path / "..data").symlink_to("..first")
    config = tmp_path / "config.toml"
    config.symlink_to("..data/config.toml")
    with live_server.running(config, times=live_server.WATCHING) as server:
        assert served(server) == "first"
        (tmp_path / "..data_tmp").symlink_to("..second")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")
        wait_until(lambda: served(server) == "second")


def test_an_empty_file_is_refused_and_a_comment_is_taken(
    config: Path, server: live_server.Running
) -> None:
    config.write_text("")
    (problem,) = reloaded(config).problems
    assert problem == (
        "is empty: it may be about to be written, or the disk is full; write a comment into it to "
        "remove all settings, credentials too"
    )
    assert served(server) == "first"
    config.write_text("# nothing")
    assert reloaded(config).done


PLUGIN = """
from pathlib import Path
from pexpolicy import Conference, PluginSettings, hookimpl

class Listed:
    class Settings(PluginSettings):
        file: str

    def __init__(self, settings):
        self.file = Path({folder!r}) / settings.file
        self.name = self.file.read_text()

    @hookimpl
    def tracked_files(self):
        return [self.file]

    @hookimpl
    async def service_configuration(self, request):
        return Conference(name=self.name, service_tag="{tag}")
"""


def listed(folder: Path, isolation: str = "none") -> Path:
    """A configuration with a plugin that lies in a folder, and is made of a file."""
    (folder / "name.txt").write_text("first")
    source = PLUGIN.format(folder=str(folder), tag="one")
    table = f'isolation = "{isolation}"\nprocesses = 1\nsettings.file = "name.txt"'
    return live_server.drop_in(folder, "listed", source, table)


def test_sighup_reloads_files_that_are_not_watched(tmp_path: Path) -> None:
    config = listed(tmp_path)
    source = tmp_path / "plugins" / "listed.py"
    source.write_text(source.read_text().replace("[self.file]", "[]"))
    with live_server.running(config) as server:
        (tmp_path / "name.txt").write_text("second")
        assert served(server) == "first"
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: served(server) == "second")


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_a_file_that_a_plugin_was_made_of_is_watched_and_hashed(
    tmp_path: Path, isolation: str
) -> None:
    config = listed(tmp_path, isolation)
    source = tmp_path / "plugins" / "listed.py"
    with live_server.running(config, times=live_server.WATCHING) as server:
        assert served(server) == "first"
        (tmp_path / "name.txt").write_text("second")
        wait_until(lambda: served(server) == "second")
        hashes = {line["policy_hash"] for line in server.lines()}
        assert len(hashes) == 2
        assert server.lines()[-1]["policy_hash"] in command("check", config).stdout
        if isolation == "process":
            return
        # The same length in the same second: a cache of compiled code would not see it.
        source.write_text(PLUGIN.format(folder=str(tmp_path), tag="two"))
        wait_until(lambda: server.ask(ROOM).result["service_tag"] == "two")


LIVED = r"""
import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from pexpolicy import Conference, PluginSettings, hookimpl

class Lived:
    class Settings(PluginSettings):
        name: str

    def __init__(self, settings):
        self.name = settings.name

    def note(self, what):
        with (Path(__file__).parent.parent / "life.txt").open("a") as notes:
            notes.write(what + " " + self.name + "\n")

    @hookimpl
    @asynccontextmanager
    async def lifespan(self):
        async with asyncio.TaskGroup():
            self.note("opened")
            yield
            self.note("closed")

    @hookimpl
    async def service_configuration(self, request):
        self.note("asked")
        await asyncio.sleep(0.9)
        self.note("answered")
        return Conference(name=self.name, service_tag="x")
"""


def test_a_call_under_way_keeps_to_what_it_began_with(tmp_path: Path) -> None:
    config = live_server.drop_in(tmp_path, "lived", LIVED, 'timeout = 4.0\nsettings.name = "old"')
    notes = tmp_path / "life.txt"
    with live_server.running(config) as server, ThreadPoolExecutor() as pool:
        call = pool.submit(server.ask, ROOM)
        wait_until(lambda: "asked old" in notes.read_text())
        config.write_text(config.read_text().replace('"old"', '"new"'))
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: "opened new" in notes.read_text())
        assert call.result().result["name"] == "old"
        assert served(server) == "new"
        wait_until(lambda: "closed old" in notes.read_text())
    lived = notes.read_text().splitlines()
    assert lived.index("opened new") < lived.index("answered old") < lived.index("closed old")
    assert lived[-1] == "closed new"


def test_credentials_and_privacy_change_with_the_rest(
    config: Path, server: live_server.Running
) -> None:
    password = config.with_name("password.txt")
    password.write_text("canary-1")
    config.write_text(
        written("second", '[auth]\nuser = "pexip"\npassword_file = "password.txt"')
        + '\n[privacy]\npersonal = "dropped"\n'
    )
    assert reloaded(config).done
    assert server.ask(ROOM).status == 401
    asked = f"{ROOM}&remote_alias=alice@example.com"
    assert server.ask(asked, headers=wire.basic("pexip", "canary-1")).status == 200
    assert "alice" not in json.dumps(server.lines()[-1])
    password.write_text("canary-2")
    headers = wire.basic("pexip", "canary-2")
    wait_until(lambda: server.ask(ROOM, headers=headers).status == 200)
    assert server.ask(ROOM, headers=wire.basic("pexip", "canary-1")).status == 401
