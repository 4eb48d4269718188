"""Restarts with broken files behind HAProxy, and kills while the last good files are kept."""

import asyncio
import hashlib
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from lab.load_balancers.guards import haproxy
from lab.load_balancers.load import Callers, Tally
from lab.load_balancers.servers import Server
from pexpolicy.builder import policy_from, starting_policy
from pexpolicy.fleet import last_good
from pexpolicy.server.reload_triggers import ask_for_reload
from tests.fleet.test_last_good import BREAKAGES, CONFIG, FILES, keep, written
from tests.support.server_process import temporary_folder
from tests.support.waiting import wait_until

SERVERS, CALLERS, PAUSE = 3, 6, 0.02
KILLS = 100
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.chmod", "os.chown")
"""Audit events of Python for what changes a folder, in addition to a file that is opened to write.
"""
SERVER = '[server]\nbudget = 1.8\n[plugins.words]\nisolation = "none"\n'
CONFIGURATION = CONFIG.replace('[plugins.words]\nisolation = "{isolation}"\n', "")


async def broken(names: Iterable[str]) -> dict[str, Tally]:
    """Break each of these on all servers in turn, restart all, and return the calls meanwhile."""
    tallies: dict[str, Tally] = {}
    with temporary_folder("last-good-") as path, ExitStack() as stack:
        folders = [Path(path, f"server-{number}") for number in range(SERVERS)]
        text = CONFIGURATION + SERVER
        servers = [Server(folder, text, FILES) for folder in folders]
        for server in servers:
            stack.callback(server.stop)
        port = stack.enter_context(haproxy(Path(path), [one.port for one in servers]))
        for name in names:
            for folder in folders:
                await asyncio.to_thread(_wait_until_kept, folder)
            callers = Callers(port, CALLERS, PAUSE)
            for folder in folders:
                BREAKAGES[name](folder)
            for server in servers:
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(server.start)
                await asyncio.to_thread(server.wait_for_calls)
            tallies[name] = Tally.of(await callers.stop())
            for folder in folders:
                await asyncio.to_thread(_repaired, folder, text)
    return tallies


def _wait_until_kept(folder: Path) -> None:
    """Wait for the thread that keeps the present files, which a reload may have changed."""
    config = folder / "config.toml"
    digest = hashlib.sha256(config.read_bytes()).hexdigest()
    wait_until(
        lambda: [
            one
            for one in last_good.history(folder / "state", config)[:1]
            if one.files[str(config)] == digest and not last_good.changed_files(one)
        ]
    )


def _repaired(folder: Path, text: str) -> None:
    for found in folder.iterdir():
        if found.name not in ("state", "audit.jsonl"):
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    written(folder).write_text(text)
    (result,) = ask_for_reload(folder / "config.toml")
    assert result is not None
    assert result.done, result.problems


def kills(number: int) -> Counter[str]:
    """Kill a process that keeps another configuration, ``number`` times at each of its writes.

    Return how often the one before and the other one were kept; fail if neither was whole.
    """
    found: Counter[str] = Counter()
    with temporary_folder("last-good-") as path:
        folder, state = Path(path, "server"), Path(path, "server/state")
        folder.mkdir()
        config = written(folder)
        before, was_killed = "", True
        for count in range(last_good.KEPT_NUMBER):  # so that something is removed, too
            (folder / "rooms.csv").write_text(f"aliases,name\nboard@example.com,{count}\n")
            before = keep(config).policy_hash
        shutil.copytree(state, Path(path, "before"))
        (folder / "rooms.csv").write_text(FILES["rooms.csv"])
        policy = policy_from(config)
        policy.close()
        for at in range(1, 10_000):
            for _ in range(number):
                shutil.rmtree(state)
                shutil.copytree(Path(path, "before"), state)
                was_killed = _killed_at(at, policy)
                kept = last_good.last_good(state, config)
                assert kept is not None, f"nothing is whole after a kill at {at}"
                name = "before" if kept[0].policy_hash == before else "after"
                assert name == "before" or kept[0].policy_hash == policy.policy_hash
                found[name] += 1
            _starts(config)
            if not was_killed:
                return found
            last_good.keep(state, policy.settings, policy.inputs, "1")
            assert last_good.history(state, config)[0].policy_hash == policy.policy_hash
    raise AssertionError("it does not end")


def _killed_at(number: int, policy: Any) -> bool:
    """Keep a policy in a process that is killed before one of its writes; return whether it was."""
    if not (child := os.fork()):
        seen = iter(range(1, number))

        def count(event: str, given: tuple[Any, ...]) -> None:
            is_written = event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR)
            if (is_written or event in CHANGES) and next(seen, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            last_good.keep(policy.settings.state_dir, policy.settings, policy.inputs, "1")
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _starts(config: Path) -> None:
    content = config.read_text()
    config.write_text("[")
    starting_policy(config).close()
    config.write_text(content)


def main() -> int:
    """Run both; return 1 if the guard decided a call."""
    write = Console().print
    found = kills(KILLS)
    write(f"{found.total():,} kills; kept was {dict(found)}")
    tallies = asyncio.run(broken(BREAKAGES))
    for name, tally in tallies.items():
        write(f"{name:18} {tally}")
    lost = [name for name, tally in tallies.items() if not tally.all_by_server]
    calls = sum(tally.calls for tally in tallies.values())
    write(f"{calls:,} calls, decided by the guard after: {', '.join(lost) or 'none'}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
