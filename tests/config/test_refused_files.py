"""A file that made a configuration invalid is watched, so mending it causes a reload."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pexpolicy.builder import policy_from
from pexpolicy.config.settings import ConfigError
from pexpolicy.server.reload_triggers import ask_for_reload
from tests.support import live_server, wire
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

ROOM = f"{wire.SERVICE}?local_alias=blocked"
SERVED = """
[server]
workers = {workers}
[audit]
path = "audit.jsonl"
"""
RULES = '[plugins.rules.settings]\nfiles = ["rules.toml"]\n'
PASSWORD = '[auth]\nuser = "pexip"\npassword_file = "password.txt"\n'
RULE = """
[[rules]]
name = "blocked"
endpoint = "service_configuration"
when = {{ local_alias = "blocked" }}
then = {{ action = "{action}" }}
"""


@pytest.fixture(params=[1, 2], scope="module")
def started(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[live_server.Running, Path]]:
    """A server of one process, and one of two."""
    config = tmp_path_factory.mktemp("served") / "config.toml"
    config.write_text(SERVED.format(workers=request.param))
    with live_server.running(config) as running:
        yield running, config


@pytest.fixture
def server(started: tuple[live_server.Running, Path]) -> Iterator[live_server.Running]:
    running, config = started
    before = config.read_bytes()
    yield running
    config.write_bytes(before)
    for one in (*config.parent.glob("rules*"), config.with_name("password.txt")):
        shutil.rmtree(one) if one.is_dir() else one.unlink(missing_ok=True)
    assert all(result is not None and result.done for result in ask_for_reload(config))


@pytest.fixture
def folder(started: tuple[live_server.Running, Path]) -> Path:
    """The folder of its configuration."""
    return started[1].parent


@pytest.mark.parametrize("before", [None, "[[rules]\n", RULE.format(action="rejekt")])
def test_a_mended_file_of_rules_is_taken_up(
    server: live_server.Running, folder: Path, before: str | None
) -> None:
    rules, config = folder / "rules.toml", folder / "config.toml"
    if before is not None:
        rules.write_text(before)
    config.write_text(config.read_text() + RULES)
    (result,) = ask_for_reload(config)
    assert result is not None
    assert not result.done
    assert any("rules" in problem for problem in result.problems)
    assert server.ask(ROOM).action == "continue"
    rules.write_text(RULE.format(action="reject"))
    wait_until(lambda: server.ask(ROOM).action == "reject")


def test_a_file_that_appears_where_none_matched_is_taken_up(
    server: live_server.Running, folder: Path
) -> None:
    config = folder / "config.toml"
    (folder / "rules").mkdir()
    config.write_text(config.read_text() + RULES.replace("rules.toml", "rules/*.toml"))
    (result,) = ask_for_reload(config)
    assert result is not None
    assert result.problems == ("plugins.rules.settings.files: there is no file rules/*.toml",)
    (folder / "rules" / "first.toml").write_text(RULE.format(action="reject"))
    wait_until(lambda: server.ask(ROOM).action == "reject")


def test_a_name_that_no_file_can_have_is_refused_like_any_other_mistake(
    server: live_server.Running, folder: Path
) -> None:
    config = folder / "config.toml"
    served = config.read_text()
    config.write_text(served + RULES.replace("rules.toml", "a\\u0000b"))
    (result,) = ask_for_reload(config)
    assert result is not None
    assert "there is no file" in result.problems[0]
    assert server.ask(ROOM).status == 200
    (folder / "rules.toml").write_text(RULE.format(action="reject"))
    config.write_text(served + RULES)
    wait_until(lambda: server.ask(ROOM).action == "reject")


def test_a_password_that_was_missing_is_taken_up(server: live_server.Running, folder: Path) -> None:
    config = folder / "config.toml"
    config.write_text(config.read_text() + PASSWORD)
    (result,) = ask_for_reload(config)
    assert result is not None
    assert not result.done
    assert server.ask(ROOM).status == 200
    (folder / "password.txt").write_text("a long password")
    wait_until(lambda: server.ask(ROOM).status == 401)


PLUGIN = """
from pexpolicy import ConfigPath, PluginSettings, hookimpl
from pexpolicy.files import track_file

class Listed:
    class Settings(PluginSettings):
        file: ConfigPath

    def __init__(self, settings):
        track_file(settings.file)
        settings.file.read_text()

    @hookimpl
    async def media_location(self, request):
        return None
"""


def test_a_file_that_a_plugin_notes_is_one_of_them(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "listed.py").write_text(PLUGIN)
    config = tmp_path / "config.toml"
    config.write_text('plugin_dirs = ["plugins"]\n[plugins.listed.settings]\nfile = "list.txt"\n')
    with pytest.raises(ConfigError) as refused:
        policy_from(config)
    assert refused.value.files == (config, tmp_path / "list.txt")
    (tmp_path / "list.txt").touch()
    policy = policy_from(config)
    policy.close()
    assert tmp_path / "list.txt" in policy.files, "also of one that was built"
