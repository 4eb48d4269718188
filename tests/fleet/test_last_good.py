"""The last good files of a server: what is kept, and starts and restorations from it."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from yarl import URL

from pexpolicy import ServiceConfigurationRequest
from pexpolicy.builder import policy_from, starting_policy
from pexpolicy.cli.common import load_or_exit
from pexpolicy.cli.main import main
from pexpolicy.config.settings import ConfigError, PluginStartupError
from pexpolicy.fleet import last_good
from pexpolicy.fleet.policy_hash import prepare_state_dir
from pexpolicy.policy import BuildContext, Policy
from pexpolicy.server.reload_triggers import ask_for_reload
from tests.support import forked, live_server
from tests.support.processes import children
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

CONFIG = """
plugin_dirs = ["plugins"]
[audit]
path = "audit.jsonl"
[plugins.rooms.settings]
csv = "rooms.csv"
[plugins.rooms.settings.pin]
derive = "sha256"
secret_file = "pin.key"
[plugins.words]
isolation = "{isolation}"
[plugins.rules.settings]
files = ["rules/*.toml"]
[plugins.rules.settings.sources.people]
source = "people"
column = "alias"
[sources.people]
driver = "file"
path = "people.csv"
"""
PLUGIN = """
from pexpolicy import Plugin, Reject, hookimpl
from ._word import WORD

class Words(Plugin):
    @hookimpl
    def service_configuration(self, request):
        if request.local_alias == "word@example.com":
            return Reject(reason=WORD)
"""
RULES = """
[[rules]]
name = "closed"
endpoint = ["service_configuration"]
when.local_alias.in_source = "people"
then.action = "reject"
"""
FILES = {
    "rooms.csv": "aliases,name\nboard@example.com,Board\n",
    "pin.key": "a secret of the site",
    "plugins/words.py": PLUGIN,
    "plugins/_word.py": 'WORD = "kept"\n',
    "rules/a.toml": RULES,
    "people.csv": "alias\nclosed@example.com\n",
}


def written(folder: Path, isolation: str = "none", head: str = "") -> Path:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    config = folder / "config.toml"
    config.write_text(head + CONFIG.format(isolation=isolation))
    return config


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def keep(config: Path, **facts: Any) -> Policy:
    """Keep what a server would after its start."""
    policy = policy_from(config)
    policy.close()
    assert not prepare_state_dir(policy.settings)
    policy = policy_from(config)  # with the key
    policy.close()
    last_good.keep(policy.settings.state_dir, policy.settings, policy.inputs, "1", **facts)
    return policy


def history(config: Path) -> list[last_good.Activation]:
    return last_good.history(config.parent / "state", config)


def replaced_by_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


Break = Callable[[Path], object]
BREAKAGES: dict[str, Break] = {
    "row": lambda folder: (folder / "rooms.csv").write_text("aliases,name\nboard\nx,y,z\n"),
    "no table": lambda folder: (folder / "rooms.csv").unlink(),
    "not text": lambda folder: (folder / "rooms.csv").write_bytes(b"\xff\xfe\x00"),
    "plugin": lambda folder: (folder / "plugins/words.py").write_text("class Words(:"),
    "helper": lambda folder: (folder / "plugins/_word.py").unlink(),
    "no plugins": lambda folder: (folder / "plugins").rename(folder / "elsewhere"),
    "rules": lambda folder: (folder / "rules/a.toml").write_text("[[rules]]\n"),
    "no rules": lambda folder: (folder / "rules/a.toml").unlink(),
    "more rules": lambda folder: (folder / "rules/b.toml").write_text("[[rules]]\n"),
    "source": lambda folder: (folder / "people.csv").write_text('"'),
    "key": lambda folder: (folder / "config.toml").write_text("[server]\nprot = 1\n"),
    "no TOML": lambda folder: (folder / "config.toml").write_text("[server\n"),
    "empty": lambda folder: (folder / "config.toml").write_text(""),
    "no configuration": lambda folder: (folder / "config.toml").unlink(),
    "a folder": lambda folder: replaced_by_a_folder(folder / "config.toml"),
}


@pytest.mark.parametrize("isolation", ["none", "process"])
@pytest.mark.parametrize("name", BREAKAGES)
async def test_a_start_with_any_file_broken_decides_as_before(
    tmp_path: Path, name: str, isolation: str
) -> None:
    config = written(tmp_path, isolation)
    kept = keep(config)
    BREAKAGES[name](tmp_path)
    try:
        policy_from(config).close()
    except ConfigError:
        pass
    else:
        assert name == "empty"
    policy = starting_policy(config, context=BuildContext(time_limits=False))
    assert policy.fallback is not None
    assert policy.policy_hash == kept.policy_hash
    assert policy.fallback.secrets == []
    assert config in policy.files
    assert kept.policy_hash in str(policy.fallback)
    async with policy.serving():
        for alias, reason in (("word", "kept"), ("closed", "rule closed"), ("board", None)):
            query = URL.build(query={"local_alias": f"{alias}@example.com"}).query
            request = ServiceConfigurationRequest(query)
            answer = await policy.answer(request, "id")
            assert answer.outcome.decided_by != "default"
            assert answer.outcome.decision.reason == reason or alias == "board"


def test_a_first_start_and_one_with_other_plugins_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    for _ in range(2):
        keep(config)
        policy = starting_policy(config)
        policy.close()
        assert policy.fallback is None
    (tmp_path / "state/history").rename(tmp_path / "state/other")
    written(tmp_path)
    (tmp_path / "rooms.csv").write_text("")
    with pytest.raises(ConfigError, match=r"rooms\.csv"):
        starting_policy(config)
    (tmp_path / "rooms.csv").write_text(FILES["rooms.csv"])
    keep(config)
    # The secret is not kept: the present one is used, and named.
    (tmp_path / "pin.key").write_text("another secret")
    (tmp_path / "rooms.csv").write_text("")
    policy = starting_policy(config)
    policy.close()
    assert policy.fallback is not None
    assert policy.fallback.secrets == [str(tmp_path / "pin.key")]
    assert "pin.key" in str(policy.fallback)
    (tmp_path / "pin.key").write_text("")
    with pytest.raises(ConfigError, match=r"rooms\.csv") as raised:
        starting_policy(config)
    assert not isinstance(raised.value, PluginStartupError)
    # Those of another configuration in the same folder are not used.
    other = config.rename(tmp_path / "other.toml")
    with pytest.raises(ConfigError, match=r"other\.toml"):
        starting_policy(other)


def test_the_state_folder_of_a_broken_file_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = written(tmp_path, head='server.state_dir = "kept"\n')
    keep(config)
    for broken in ("server = {\nstate_dir = 'kept'\n[", '[server]\nstate_dir = "kept"\n[['):
        config.write_text(broken)
        starting_policy(config).close()
    config.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        starting_policy(config)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "kept"))
    starting_policy(config).close()


def test_what_is_kept_is_bounded_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, objects = written(tmp_path), tmp_path / "state/objects"
    first = keep(config)
    assert keep(config).policy_hash == first.policy_hash
    assert len(history(config)) == 1, "the same files again are no other activation"
    kept = {path.stat().st_mode & 0o777 for path in objects.iterdir()}
    assert kept == {0o600}
    assert not any(FILES["pin.key"].encode() in path.read_bytes() for path in objects.iterdir())
    for number in range(12):
        (tmp_path / "rooms.csv").write_text(f"aliases,name\nboard@example.com,{number}\n")
        keep(config)
    found = history(config)
    assert len(found) == 10
    assert [one.time for one in found] == sorted((one.time for one in found), reverse=True)
    assert found[0].changes == ("file rooms.csv",)
    digests = {digest for one in found for digest in one.files.values()}
    assert {path.name for path in objects.iterdir()} == digests
    # A damaged copy: the one before is whole.
    (objects / found[0].files[str(tmp_path / "rooms.csv")]).write_text("x")
    (tmp_path / "rooms.csv").write_text("")
    policy = starting_policy(config)
    policy.close()
    assert policy.policy_hash == found[1].policy_hash
    # Going back to an older one makes it the latest, though the clock was set back.
    monkeypatch.setattr("time.time", lambda: 0.0)
    (tmp_path / "rooms.csv").write_text(FILES["rooms.csv"])
    assert keep(config).policy_hash == history(config)[0].policy_hash
    monkeypatch.setattr(last_good, "MAX_BYTES", 100)
    (tmp_path / "rooms.csv").write_text(FILES["rooms.csv"] + "sales@example.com,Sales\n")
    with pytest.raises(OSError, match="more than 100 bytes"):
        keep(config)


def test_a_file_that_changed_after_it_was_read_is_not_kept(tmp_path: Path) -> None:
    config = written(tmp_path)
    policy = keep(config)
    (tmp_path / "rooms.csv").write_text(FILES["rooms.csv"] + "sales@example.com,Sales\n")
    changed = policy_from(config)
    changed.close()
    (tmp_path / "rooms.csv").write_text("")
    with pytest.raises(OSError, match="has changed since it was read"):
        last_good.keep(tmp_path / "state", changed.settings, changed.inputs, "1")
    assert history(config)[0].policy_hash == policy.policy_hash


def test_a_server_starts_from_them_says_so_everywhere_and_recovers(tmp_path: Path) -> None:
    config = written(tmp_path)
    with live_server.running(config) as server:
        wait_until(lambda: history(config))
        assert server.operator("/status").json["degraded"] == []
    with (tmp_path / "rooms.csv").open("a") as rows:
        rows.write("x,y,maybe\n")
    assert forked.run("serve", "-c", str(config), "--no-last-good").returncode == 78
    log: list[str] = []
    with live_server.running(config, log=log) as server:
        assert (
            server.ask("/policy/v1/service/configuration?local_alias=word@example.com").json[
                "reason"
            ]
            == "kept"
        )
        document = server.operator("/status").json
        assert document["ready"]
        assert server.operator("/readyz").status == 200
        (text,) = document["degraded"]
        assert history(config)[0].policy_hash in text
        assert "rooms.csv line 3" in document["config"]["problems"][0]
        assert b"pexpolicy_degraded 1.0" in server.operator("/metrics").body
        shown = run("status", "--url", server.admin)
        assert (shown.exit_code, text in shown.stdout) == (1, True)
        assert run("check", "-c", config).exit_code == 78
        line = server.lines()[0]
        assert (line["event"], line["accepted"]) == ("reload", False)
        assert "rooms.csv line 3" in line["error"]
        (refused_again,) = ask_for_reload(config, "ann")
        assert refused_again is not None
        assert not refused_again.done
        (tmp_path / "rooms.csv").write_text(FILES["rooms.csv"] + "sales@example.com,Sales\n")
        (result,) = ask_for_reload(config, "ann")
        assert result is not None
        assert result.done
        assert server.operator("/status").json["degraded"] == []
        assert b"pexpolicy_degraded 0.0" in server.operator("/metrics").body
        assert run("status", "--url", server.admin).exit_code == 0
        events = [one for one in server.lines() if one["event"] == "reload"]
        last = next(one for one in events if one["accepted"])
        assert last["policy_hash"] == result.policy_hash != last["policy_hash_before"]
        assert last["changes"] == ["rooms: added Sales"]
        wait_until(lambda: history(config)[0].policy_hash == result.policy_hash)
    assert any("the last good files are used" in one for one in log)
    # A file that is no TOML names no admin listener, but what the server runs with does.
    config.write_text(f"{config.read_text()}\nbroken")
    assert "rooms" in load_or_exit(config, "").plugins


def test_a_worker_that_starts_later_decides_as_the_others(tmp_path: Path) -> None:
    config = written(tmp_path)
    with live_server.running(config, "--workers", "2") as server:
        wait_until(lambda: history(config))
        active = server.operator("/status").json["config"]["policy_hash"]
        (tmp_path / "rooms.csv").write_text("")
        (refused,) = ask_for_reload(config)
        assert refused is not None
        assert not refused.done
        before = children(server.pid)
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len(children(server.pid) - before) == 1)
        wait_until(lambda: server.operator("/status").json["workers"] == 2)
        wait_until(lambda: b"pexpolicy_degraded 1.0" in server.operator("/metrics").body)
        assert server.operator("/status").json["config"]["policy_hash"] == active
        events = [one for one in server.lines() if one["event"] == "reload"]
        assert not any(one["accepted"] for one in events)
    # All of them.
    config.unlink()
    with live_server.running(config, "--workers", "2") as server:
        assert server.operator("/status").json["config"]["policy_hash"] == active


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with live_server.running(written(tmp_path)) as server:
        wait_until(lambda: server.operator("/status").json["config"]["not_kept"])
        assert b"pexpolicy_config_kept 0.0" in server.operator("/metrics").body
        shown = run("status", "--url", server.admin)
        assert (shown.exit_code, "nothing is kept" in shown.stdout) == (0, True)


def test_history_difference_and_restoration(tmp_path: Path) -> None:
    config = written(tmp_path)
    log = tmp_path / ".git/logs/HEAD"
    log.parent.mkdir(parents=True)
    commits = ("0" * 40, "f" * 40, "0123456789abcdef" + "0" * 24)
    entry = "{} {} Ann <ann@example.com> 1764650000 +0000\tpull\n"
    log.write_text(entry.format(*commits[:2]) + entry.format(*commits[1:]))
    first = keep(config, author="ann", changes=("rooms: added Board",))
    (tmp_path / "rooms.csv").write_text("aliases,name\nboard@example.com,Boardroom\n")
    (tmp_path / "rooms.csv").chmod(0o640)
    second = keep(config)
    shown = run("config", "history", "-c", config)
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()[1:]
    assert [second.policy_hash in lines[0], first.policy_hash in lines[1]] == [True, True]
    assert "ann, commit 0123456789ab" in lines[1]
    document = json.loads(run("config", "history", "-c", config, "--json").stdout)
    assert [one["policy_hash"] for one in document] == [second.policy_hash, first.policy_hash]
    assert document[1]["changes"] == ["rooms: added Board"]
    (tmp_path / "rules/a.toml").unlink()
    (tmp_path / "plugins/_word.py").write_bytes(b"\x00\xff")
    (tmp_path / "pin.key").write_text("another")
    difference = run("config", "diff", first.policy_hash, "-c", config)
    assert difference.exit_code == 0
    assert "-board@example.com,Board\n+board@example.com,Boardroom\n" in difference.stdout
    assert "_word.py differs, and is not text" in difference.stdout
    assert "a.toml (missing)" in difference.stdout
    assert "pin.key is another secret" in difference.stderr
    listed = run("config", "restore", first.policy_hash[:6], "-c", config)
    assert (listed.exit_code, "add --yes" in listed.stderr) == (1, True)
    assert "Boardroom" in (tmp_path / "rooms.csv").read_text()
    (tmp_path / "rules").rmdir()
    done = run("config", "restore", first.policy_hash, "-c", config, "--yes")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "rooms.csv").read_text() == FILES["rooms.csv"]
    assert (tmp_path / "rooms.csv").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "rules/a.toml").read_text() == RULES
    assert (tmp_path / "pin.key").read_text() == "another"
    assert run("config", "diff", first.policy_hash, "-c", config).stdout == ""
    for unknown in ("ffffffff", ""):
        assert run("config", "restore", unknown, "-c", config, "--yes").exit_code == 2
    for folder_mode, mode in ((0o750, 0o640), (0o755, 0o640), (0o700, 0o600)):
        tmp_path.chmod(folder_mode)
        (tmp_path / "rooms.csv").unlink()
        Path(config).unlink()
        done = run("config", "restore", first.policy_hash, "-c", config, "--yes")
        assert done.exit_code == 0, done.output
        modes = {(tmp_path / name).stat().st_mode & 0o777 for name in ("config.toml", "rooms.csv")}
        assert modes == {mode}


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to])
def test_a_link_in_the_state_folder_leaves_its_target_as_it_was(
    tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    config, victim = written(tmp_path), tmp_path / "victim"
    (tmp_path / "state").mkdir()
    victim.write_text("as it was")
    make(tmp_path / "state" / "history.lock", victim)
    with pytest.raises(OSError, match=r"history\.lock"):
        keep(config)
    assert victim.read_text() == "as it was"
