"""Meetings: kills between store and reply, canaries, generated requests, and what they cost."""

import argparse
import asyncio
import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from bench import cores, cpu
from lab import report
from lab.live.flood import percentile
from lab.load import Connection, Load
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import load as load_config
from pexpolicy_meetings import Meetings
from pexpolicy_meetings.meeting import Fault, Meeting, parsed, rfc3339
from tests.support import live_server, postgresql, secret_canaries, wire
from tests.support.server_process import free_port

ENGINES = ("sqlite", "postgresql")
TOKEN = secret_canaries.WORD
PINS = {"host_pin": secret_canaries.PIN, "guest_pin": secret_canaries.PIN[::-1]}
AUTH = {"Authorization": f"Bearer {TOKEN}"}
PAIRS, CALLS_A_SECOND, WRITERS = 7, 200, 4
TENANT = """
[plugins.meetings.settings.tenants.t{number}]
tag = "t=t{number}"
aliases = ["{number}-*@acme.example.com"]
"""

COUNTING = """
[plugins.live]
[plugins.limits.settings.tenants.t0]
tag = "t=t0"
[events]
user = "sink"
password_file = "key"
"""
CHECKS = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "412", "422", "429", "503"]
[checks.use_after_free]
enabled = false
"""
"""No schema has it that a meeting ends after its start, or which version of it is the present.
DELETE cancels a meeting, which is shown as cancelled.
"""
HOOKS = """
import schemathesis

@schemathesis.hook
def after_call(context, case, response):
    with open("answers", "a") as file:
        print(case.operation.label, response.status_code, file=file)
"""
MANY = 200
"""Examples of each operation after which each one has changed something."""
CHANGES = ("created", "replaced", "patched", "cancelled", "ended", "given_new_pins", "invited")
RARE_CHANGES = ("invitation_patched",)
SELDOM_DONE = "DELETE /api/v1/meetings/{id}/invitations/{invitation}"
"""Its id is known from another reply only, and gone after one success."""


class Site:
    """One server, whose API has a fixed port, and its database."""

    def __init__(self, folder: Path, stack: ExitStack, engine: str, tenants: int = 1) -> None:
        self.config, self.stack = folder / "config.toml", stack
        self.port = free_port()
        self.api = f"http://127.0.0.1:{self.port}/api/v1"
        (folder / "key").write_text("0123456789abcdef" * 4)
        shared = ""
        if engine == "postgresql":
            database = stack.enter_context(postgresql.Server.running())
            (folder / "db.password").write_text(postgresql.PASSWORD)
            shared = f'driver = "postgresql"\nurl = "{database.url}"\npassword_file = "db.password"'
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        scopes = '["meetings:read", "meetings:write", "pins:read", "live:read"]'
        tables = "".join(TENANT.format(number=number) for number in range(tenants))
        token = f'tokens = [{{ name = "crm", sha256 = "{digest}", scopes = {scopes} }}]\n'
        self.config.write_text(
            '[server]\nstate_dir = "state"\n[audit]\npath = "audit.jsonl"\n'
            f"[api]\nport = {self.port}\n[shared]\ntimeout = 4.0\n{shared}\n[plugins.meetings]\n"
            'on_error = "reject"\n[plugins.meetings.settings]\nkey_file = "key"\n'
            + tables.replace("aliases", f"{token}aliases", 1)
        )

    def start(self, stack: ExitStack | None = None, **options: Any) -> live_server.Running:
        running = live_server.running(self.config, **options)
        return (stack or self.stack).enter_context(running)

    async def ask(
        self, http: aiohttp.ClientSession, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        """Send a request until it is answered."""
        while True:
            try:
                url, sent = f"{self.api}/{path}", {**AUTH, **headers}
                async with http.request(method, url, json=body, headers=sent) as reply:
                    if reply.status < 500:
                        return reply.status, await reply.json(content_type=None)
            except (aiohttp.ClientError, ConnectionError):
                pass
            await asyncio.sleep(0.01)


def times(hours: float = 1.0) -> dict[str, str]:
    """Return the times of a meeting that begins in so many hours."""
    start = time.time() + 3600 * hours
    return {"start": rfc3339(start), "end": rfc3339(start + 1800)}


@asynccontextmanager
async def working(work: Callable[[int], Awaitable[None]], tasks: int) -> AsyncIterator[None]:
    """Repeat work with the next number in some tasks; each ends after a whole one."""
    numbers, over = itertools.count(), asyncio.Event()

    async def repeat() -> None:
        while not over.is_set():
            await work(next(numbers))

    running = [asyncio.create_task(repeat()) for _ in range(tasks)]
    try:
        yield
    finally:
        over.set()
        await asyncio.gather(*running)


def _written(folder: Path) -> list[str]:
    """Return the content of all files, except for those that hold a secret."""
    files = [one for one in folder.rglob("*") if one.is_file() and one.suffix != ".password"]
    return [one.read_bytes().decode("latin-1") for one in files]


async def kill(folder: Path, kills: int, engine: str, seed: int) -> report.Finding:
    """Kill a server at random moments while it stores; the client repeats what had no reply."""
    found, chance = report.Finding(f"kills {engine}", f"{kills}, seed {seed}"), random.Random(seed)
    confirmed, shown = list[str](), list[str]()
    with ExitStack() as whole:
        site = await asyncio.to_thread(Site, folder, whole, engine)
        async with aiohttp.ClientSession() as http:

            async def book(number: int) -> None:
                key, body = {"Idempotency-Key": f'"k-{number}"'}, {**times(), **PINS}
                replies = [await site.ask(http, "POST", "meetings", body, **key) for _ in range(2)]
                ids = {(status, made.get("id"), made.get("host_pin")) for status, made in replies}
                found.expect(len(ids) == 1 and replies[0][0] == 201, f"a repetition made {ids}")
                status, _ = await site.ask(http, "PUT", f"meetings/n-{number}", body)
                found.expect(status in (200, 201), f"PUT is {status}")
                wrong = {**body, "guest_pin": PINS["host_pin"], "lobby": PINS["guest_pin"]}
                status, refused = await site.ask(http, "PUT", f"meetings/n-{number}", wrong)
                shown.append(json.dumps(refused))
                confirmed.extend((replies[0][1]["id"], f"n-{number}"))

            with ExitStack() as last:
                server = await asyncio.to_thread(partial(site.start, last, log=shown))
                async with working(book, 4):
                    for _ in range(kills):
                        await asyncio.sleep(0.4 * chance.random())
                        os.kill(server.pid, signal.SIGKILL)
                        await asyncio.to_thread(last.pop_all().close)
                        server = await asyncio.to_thread(partial(site.start, last, log=shown))
                for path in ("/metrics", "/status", "/plugins/meetings/meetings"):
                    shown.append((await asyncio.to_thread(server.operator, path)).body.decode())
                kept, cursor = [], ""
                while cursor is not None:
                    _, page = await site.ask(http, "GET", f"meetings?limit=500&cursor={cursor}")
                    kept += [one["id"] for one in page["items"]]
                    cursor = page["next"]
    shown += await asyncio.to_thread(_written, folder)
    leaks = [secret for secret in secret_canaries.TOKENS if any(secret in one for one in shown)]
    found.expect(not leaks, f"canaries were shown or written: {leaks}")
    found.answered = len(confirmed)
    lost, doubled = set(confirmed) - set(kept), len(kept) - len(set(confirmed))
    found.expect(not lost, f"{len(lost)} of {len(confirmed)} meetings were lost")
    found.expect(doubled <= 0, f"{doubled} meetings were made twice")
    return found


async def write(folder: Path, seconds: float, engine: str, least: float) -> report.Finding:
    """Count the meetings that are put in a second."""
    found = report.Finding(f"writes {engine}", f"{seconds:g} s")
    with ExitStack() as stack:
        site = await asyncio.to_thread(Site, folder, stack, engine)
        await asyncio.to_thread(site.start)
        async with aiohttp.ClientSession() as http:

            async def put(number: int) -> None:
                status, _ = await site.ask(http, "PUT", f"meetings/n-{number}", times())
                found.expect(status == 201, f"PUT is {status}")
                found.answered += 1

            began = time.monotonic()
            async with working(put, 8):
                await asyncio.sleep(seconds)
            rate = found.answered / (time.monotonic() - began)
    found.notes.append(f"{rate:.0f} PUT a second")
    found.expect(rate >= least or not found.is_timed, f"{rate:.0f} PUT a second")
    return found


def _replaced(made: Meeting | list[Fault], _: Meeting | None) -> Meeting | list[Fault]:
    return made


async def _fill(config: Path, numbers: range, tenants: int) -> str:
    """Store meetings without a server; return an alias of the last one."""
    policy = build_policy(load_config(config))
    async with policy.serving(in_server=True):
        (plugin,) = (p.instance for p in policy.plugins if isinstance(p.instance, Meetings))
        left = iter(numbers)

        async def store() -> None:
            for number in left:
                tenant, name = plugin.tenants[f"t{number % tenants}"], f"n-{number}"
                made = parsed(times(number % 100 - 2), tenant, time.time(), meeting_id=name)
                await plugin.store.change(tenant, name, partial(_replaced, made))

        await asyncio.gather(*(store() for _ in range(8)))
        kept = await plugin.store.get("t0", "n-0")
        return kept.aliases[0] if kept is not None else ""


async def look_up(
    folder: Path, meetings: int, tenants: int, calls: int, engine: str
) -> report.Finding:
    """Compare the calls to one of 100 meetings with those to one of many."""
    found = report.Finding(f"look-up {engine}", f"{meetings} of {tenants} tenants")
    medians = []
    with ExitStack() as stack:
        site = await asyncio.to_thread(Site, folder, stack, engine, tenants)
        for numbers in (range(100), range(100, meetings)):
            alias = await _fill(site.config, numbers, tenants)
            with ExitStack() as part:
                server = await asyncio.to_thread(site.start, part)
                connection, made = Connection(server.port), Load()
                for _ in range(calls):
                    target = f"{wire.SERVICE}?call_direction=dial_in&local_alias={alias}"
                    made.calls.append(await connection.ask(target))
                connection.close()
            found.of(made)
            medians.append(made.percentile(0.5))
    slower = medians[1] / medians[0] - 1
    found.notes.append(f"{slower:+.1%}")
    found.expect(slower <= 0.1 or not found.is_timed, f"{slower:+.1%} with {meetings} meetings")
    return found


async def call(folder: Path, seconds: float, rate: float, engine: str) -> report.Finding:
    """Compare calls with and without meetings that are put meanwhile, in pairs of rounds.

    What makes the load has a core of its own, and its PUT cost little: it would be measured, too.
    """
    found = report.Finding(f"calls {engine}", f"{PAIRS} pairs, {rate:g} PUT a second")
    pairs, whole_seconds, written, spent = [], max(1, round(seconds)), 0, [0, 0]
    with ExitStack() as stack:
        site = await asyncio.to_thread(Site, folder, stack, engine)
        alias = await _fill(site.config, range(1), 1)
        server = await asyncio.to_thread(site.start)
        target = f"{wire.SERVICE}?call_direction=dial_in&local_alias={alias}"
        calls = folder / "calls"
        calls.write_text(f"\n\n{target}\n")
        headers = {**AUTH, "Content-Type": "application/json"}
        free = [Connection(site.port, headers) for _ in range(WRITERS)]

        async def put(number: int) -> None:
            nonlocal written
            if number < WRITERS:  # not all at the same moment
                await asyncio.sleep(number / rate)
            began, connection = time.monotonic(), free.pop()
            place, body = f"/api/v1/meetings/{time.time_ns()}-{number}", json.dumps(times())
            answer = await connection.ask(place, "PUT", body.encode())
            found.expect(answer.status == HTTPStatus.CREATED, answer.body)
            free.append(connection)
            written += 1
            await asyncio.sleep(max(0.0, WRITERS / rate - (time.monotonic() - began)))

        with cores.pinned(cores.serving_and_loading()[1]):
            for _ in range(PAIRS):
                ends = []
                for tasks in (0, WRITERS):
                    before = cpu.reading(server.pid)
                    async with working(put, tasks):
                        steady = percentile(server.port, calls, CALLS_A_SECOND, whole_seconds)
                        ends.append(await steady)
                    spent[tasks > 0] += cpu.spent(before, cpu.reading(server.pid))
                pairs.append(ends)
    cost = (spent[1] - spent[0]) / max(written, 1) / 1e6
    found.notes.append(f"{written} PUT, each {cost:.2f} ms of the processor")
    found.answered = 2 * PAIRS * CALLS_A_SECOND * whole_seconds
    ratio = median(during / without for without, during in pairs)
    longer = median(during - without for without, during in pairs)
    found.notes.append(f"p99 {ratio:.2f} times, {longer:+.1f} ms: {pairs}")
    is_near = ratio <= 1.2 or longer <= 1.0
    found.expect(is_near or not found.is_timed, f"p99 {ratio:.2f} times, {longer:+.1f} ms")
    return found


async def generate(folder: Path, examples: int, seed: int) -> report.Finding:
    """Send requests that are made from the description, with a right token, in each phase."""
    found = report.Finding("openapi", f"{examples} of each operation, seed {seed}")
    with ExitStack() as stack:
        site = await asyncio.to_thread(Site, folder, stack, "sqlite")
        with site.config.open("a") as file:
            file.write(COUNTING)
        log: list[str] = []
        await asyncio.to_thread(lambda: site.start(log=log))
        (folder / "schemathesis.toml").write_text(CHECKS)
        (folder / "hooks.py").write_text(HOOKS)
        program = str(Path(sys.executable).with_name("schemathesis"))
        limits = ("--max-examples", str(examples), "--seed", str(seed), "--no-shrink")
        header = ("--no-color", "--header", f"Authorization: Bearer {TOKEN}")
        command = (program, "run", f"{site.api}/openapi.json", *limits, *header)
        hooks = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(folder)}
        options: Any = {"capture_output": True, "text": True, "cwd": folder, "env": hooks}
        done = await asyncio.to_thread(partial(subprocess.run, command, **options))
        lines = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    answers = Counter((folder / "answers").read_text().splitlines())
    found.answered = answers.total()
    by_operation = defaultdict[str, Counter[str]](Counter)
    for answer, times in answers.items():
        operation, _, status = answer.rpartition(" ")
        by_operation[operation][status] = times
    for operation, statuses in sorted(by_operation.items()):
        found.notes.append(f"\n{operation}: {dict(sorted(statuses.items()))}")
        is_done = any(status.startswith("2") for status in statuses)
        found.expect(
            is_done or examples < MANY or operation == SELDOM_DONE, f"{operation} never succeeded"
        )
    changes = Counter(line["action"] for line in lines if line["event"] == "change")
    found.notes.append(f"\nchanges: {dict(changes)}")
    for change in CHANGES if examples < MANY else (*CHANGES, *RARE_CHANGES):
        found.expect(changes[f"meeting_{change}"], f"no meeting was {change}")
    found.expect(done.returncode == 0, done.stdout[-4000:] + done.stderr[-500:])
    found.expect(not any("plugin failed" in line for line in log), "\n".join(log[-20:]))
    return found


def main() -> int:
    """Parse the options, run the experiments, print a table."""
    options = argparse.ArgumentParser(prog="python -m lab.meetings", description=__doc__)
    options.add_argument("--only", nargs="*", default=[], metavar="NAME")
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--meetings", type=int, default=100_000)
    options.add_argument("--tenants", type=int, default=1000)
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--examples", type=int, default=700)
    options.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    given = options.parse_args()
    experiments: dict[str, report.Experiment] = {
        "openapi": partial(generate, examples=given.examples, seed=given.seed)
    }
    many = {"meetings": given.meetings, "tenants": given.tenants, "calls": 3000}
    for engine, least in zip(ENGINES, (200.0, 400.0), strict=True):
        kills = partial(kill, kills=given.kills, engine=engine, seed=given.seed)
        puts = partial(write, seconds=given.seconds, engine=engine, least=least)
        calls = partial(call, seconds=given.seconds, rate=100.0, engine=engine)
        found = (kills, puts, partial(look_up, engine=engine, **many), calls)
        names = (f"{name}-{engine}" for name in ("kills", "writes", "look-up", "calls"))
        experiments |= dict(zip(names, found, strict=True))
    return report.run(experiments, given.only)


if __name__ == "__main__":
    sys.exit(main())
