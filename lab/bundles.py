"""Bundles: a roll-out over many servers under load, canary first, and kills during a fetch."""

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

from lab import report
from lab.load import Load, load
from pexpolicy.config.loader import present_bundle
from tests.fleet.bundles import ROWS, Maker
from tests.support import forked, live_server, wire
from tests.support.server_process import free_port
from tests.support.waiting import HANG_S, wait_until

TARGETS = (f"{wire.SERVICE}?local_alias=board@example.com",)
FETCH = """
import asyncio, sys
from pathlib import Path
from pexpolicy.config.loader import load
from pexpolicy.config.settings import ConfigError
from pexpolicy.fleet.bundle import BundleSource
from pexpolicy.log import ServerLog
try:
    settings = load(Path(sys.argv[1]))
except ConfigError as error:  # there is no bundle yet
    settings = error.salvaged
print("began", flush=True)
sys.exit(bool(asyncio.run(BundleSource(ServerLog()).pull(settings))))
"""


class Fleet:
    """Servers that fetch from a web server; the first is the canary."""

    def __init__(self, folder: Path, servers: int, every: float) -> None:
        self.maker, self.every, self.folder = Maker(folder), every, folder
        self.admins = [free_port() for _ in range(servers)]
        self.web = free_port()
        self.site = folder / "site"
        self.site.mkdir()
        (folder / "token").write_text("a token of sixteen letters")
        self.all = self._asking("all", self.admins)
        self.others = self._asking("others", self.admins[:-1])
        self.canary = self._asking("canary", self.admins[:1])

    def _asking(self, name: str, ports: list[int]) -> Path:
        path = self.folder / f"{name}.toml"
        urls = json.dumps([f"http://127.0.0.1:{port}" for port in ports])
        path.write_text(f'[fleet]\nservers = {urls}\ntoken_file = "token"\n')
        return path

    def config(self, number: int) -> Path:
        own = self.folder / f"server-{number}"
        own.mkdir()
        shutil.copy(self.folder / "now.pub", own)
        config = own / "config.toml"
        channel = "stable" if number else "canary"
        config.write_text(
            f'[audit]\npath = "audit.jsonl"\ninstance = "server-{number}"\n'
            f'[admin]\nport = {self.admins[number]}\ntoken_file = "{self.folder}/token"\n'
            f'[bundle]\nurl = "http://127.0.0.1:{self.web}/{channel}.tar.gz"\n'
            f'public_keys = ["now.pub"]\nevery = {self.every}\n'
        )
        return config

    def publish(self, archive: Path, channel: str) -> None:
        new = self.site / "new"
        shutil.copy(archive, new)
        new.replace(self.site / f"{channel}.tar.gz")

    def serve(self, stack: ExitStack) -> list[live_server.Running]:
        """Start all servers."""

        def start(number: int) -> live_server.Running:
            running = live_server.running(self.config(number), own_admin_port=True)
            return stack.enter_context(running)

        with ThreadPoolExecutor(4) as threads:
            return list(threads.map(start, range(len(self.admins))))

    async def agree(
        self, config: Path, expected: str, seconds: float = HANG_S
    ) -> tuple[float, str]:
        """Wait until the servers have a version; return the seconds and its errors."""
        command = ("status", "--config", str(config), "--fleet", "--expect", expected)
        began = time.monotonic()
        done = await asyncio.to_thread(forked.run, *command, "--wait", str(seconds))
        return time.monotonic() - began, done.stderr if done.returncode else ""


async def roll_out(
    folder: Path, servers: int, rate: float, every: float, rounds: int
) -> report.Finding:
    """Publish policies one after the other while nodes call all servers."""
    found = report.Finding("roll-out", f"{rounds} over {servers} servers")
    fleet = Fleet(folder, servers, every)
    for channel in ("canary", "stable"):
        fleet.publish(fleet.maker.archive(1), channel)
    web = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "http.server", str(fleet.web), "--bind", "127.0.0.1"),
        *("--directory", str(fleet.site)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    with ExitStack() as stack:
        stack.callback(web.kill)
        await asyncio.to_thread(wait_until, lambda: _listens(fleet.web))
        running = await asyncio.to_thread(fleet.serve, stack)
        async with AsyncExitStack() as loads:
            pause = servers / rate
            calls = [
                await loads.enter_async_context(load(one.port, 1, pause, TARGETS))
                for one in running
            ]
            for number in range(2, rounds + 2):
                fleet.maker.write(rooms_csv=ROWS.replace("Board", f"Board {number}"))
                archive = fleet.maker.archive(number)
                for channel, config in (("canary", fleet.canary), ("stable", fleet.all)):
                    fleet.publish(archive, channel)
                    seconds, errors = await fleet.agree(config, f"v{number}")
                    found.notes.append(f"{channel} {seconds:.1f} s")
                    found.expect_within(seconds, 2 * every, f"v{number} at {channel}")
                    found.expect(not errors, f"v{number} at {channel}: {errors}")
            # A server that no longer has the key of the CI is named, and keeps its policy.
            shutil.copy(folder / "retired.pub", folder / f"server-{servers - 1}" / "now.pub")
            archive = fleet.maker.archive(rounds + 2)
            for channel in ("canary", "stable"):
                fleet.publish(archive, channel)
            await fleet.agree(fleet.others, f"v{rounds + 2}")
            refused = ""
            async with asyncio.timeout(HANG_S):
                while "none of the public keys" not in refused:
                    _, refused = await fleet.agree(fleet.all, f"v{rounds + 2}", 1.0)
            found.expect(f"server-{servers - 1} (" in refused, f"it is not named: {refused}")
            found.expect(refused.count("not v") == 1, f"others are named too: {refused}")
        _judge(found, calls, rounds)
    await web.wait()
    return found


def _judge(found: report.Finding, calls: list[Load], rounds: int) -> None:
    whole = Load([call for one in calls for call in one.calls])
    found.of(whole)
    for number, one in enumerate(calls):
        names = [call.json["result"]["name"] for call in one.answered]
        order = list(dict.fromkeys(names))
        wanted = ["Board", *(f"Board {number}" for number in range(2, rounds + 2))]
        found.expect(order == wanted, f"server {number} answered by {order}")


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return not tried.connect_ex(("127.0.0.1", port))


async def kill(folder: Path, kills: int, seed: int) -> report.Finding:
    """Kill a process at a random moment while it fetches a large bundle."""
    chance = random.Random(seed)
    found = report.Finding("kills", f"{kills}, seed {seed}")
    maker = Maker(folder)
    (folder / "policy" / "large.bin").write_bytes(os.urandom(20 << 20))
    config = folder / "config.toml"
    config.write_text(
        f'[bundle]\nurl = "file://{folder}/stable.tar.gz"\npublic_keys = ["now.pub"]\n'
    )
    archives = []
    for number in (1, 2):
        maker.write(rooms_csv=ROWS.replace("Board", f"Board {number}"))
        archives.append(maker.archive(1, "now").rename(folder / f"{number}.tar.gz"))
    stable, bundles = folder / "stable.tar.gz", folder / "state" / "bundles"
    whole, took = 0, 1.0
    for number in range(kills + 1):
        shutil.copy(archives[number % 2], folder / "new")
        (folder / "new").replace(stable)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FETCH, str(config)), stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        await child.stdout.readline()
        began = time.monotonic()
        if number:
            await asyncio.sleep(took * chance.random())
            try:
                child.send_signal(signal.SIGKILL)
            except ProcessLookupError:
                whole += 1
        await child.communicate()
        took = took if number else time.monotonic() - began
        present = present_bundle(bundles)
        sizes = {path.name: path.stat().st_size for path in present.folder.iterdir()}
        found.expect(sizes.get("large.bin") == 20 << 20, f"kill {number} left {sizes}")
        rooms = (present.folder / "rooms.csv").read_text()
        found.expect(rooms.count("Board") == 1, f"kill {number} left {rooms!r}")
    found.notes.append(f"a fetch takes {took:.2f} s; {whole} ended before the kill")
    return found


def main() -> int:
    """Parse the options, run the experiments, print a table."""
    options = argparse.ArgumentParser(prog="python -m lab.bundles", description=__doc__)
    options.add_argument("--only", nargs="*", default=[], metavar="NAME")
    options.add_argument("--servers", type=int, default=20)
    options.add_argument("--rate", type=float, default=200.0, help="calls a second, of all servers")
    options.add_argument("--every", type=float, default=15.0, help="seconds between two looks")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    given = options.parse_args()
    return report.run(
        {
            "roll-out": lambda folder: roll_out(
                folder, given.servers, given.rate, given.every, given.rounds
            ),
            "kills": lambda folder: kill(folder, given.kills, given.seed),
        },
        given.only,
    )


if __name__ == "__main__":
    sys.exit(main())
