"""Every figure on every page of the console, compared with a count of the lines of the audit."""

import asyncio
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from aiohttp import hdrs
from aiohttp.test_utils import TestClient, TestServer

from lab.console_index import generated_audit, page_figures, varied_audit
from lab.console_index.page_figures import NAMES, TITLES, Audit, Figures
from lab.console_index.page_text import Difference, Page, at
from pexpolicy.cli.for_console import Tenants
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy_console import app, periods
from pexpolicy_console.children import DryRuns
from pexpolicy_console.config_file import ConfigFile
from pexpolicy_console.index import index, query
from pexpolicy_console.index.writer import IndexWriter
from pexpolicy_console.login.sessions import LoginLinks, Role
from pexpolicy_console.pages import live
from pexpolicy_console.server import console_from
from pexpolicy_console.server_client import Document, ServerClient
from pexpolicy_console.template_filters import age, milliseconds, number, size
from tests.support.counted_lines import FAULTS, HOUR, KINDS, Count
from tests.support.live_console import plugin_state, status_document
from tests.support.waiting import HANG_S

ZONES = ("UTC", "Europe/Oslo", "America/St_Johns", "Asia/Kolkata", "Pacific/Auckland")
TIMES = (1_719_000_000_000, 1_798_000_000_000)
LINES = (60, 15, 120, 200, 30, 90, 140, 45)
"""Of audits, one after the other."""
PLUGINS = ("rules", "rooms", "domains", "upstream", "locations", "meetings", "newer", "idle")
NAMES_OF = {
    "room": ("Lab", "Room 17", "Engineering", "Never"),
    "rule": ("Night", "Scanners", "7 of 9", "Unused"),
}
CONFIG = """
audit.path = "audit.jsonl"
tenants.acme.aliases = ["*@acme.example"]
plugins.rooms.settings.csv = "rooms.csv"
plugins.rules = { priority = 7, settings.files = ["rules.toml"] }
plugins.blocks = {}
"""
RULE = """
[[rules]]
name = "{}"
endpoint = "service_configuration"
when.local_alias = "{}@example.com"
then = "reject"
"""
OF_CONFIG = frozenset(("7", "100", "1.0 s", "2"))
"""Priorities, a timeout, and how many warnings it has."""
OF_SERVER = (number, size, age, lambda one: milliseconds(1000 * one), lambda one: at(1000 * one))
"""How pages write numbers of the server."""


class _DryRuns(DryRuns):
    """One process for all audits, which have the same configuration."""

    async def aclose(self) -> None:
        """Leave it to the next audit."""


class _Server(ServerClient):
    """The server of the audit."""

    answers: Mapping[str, Any]

    async def ask(self, path: str, author: str = "") -> tuple[Document | None, str]:
        """Return what is known of it."""
        content = json.dumps(self.answers[path.partition("?")[0]])
        return json.loads(content, object_hook=Document), ""


def _config(folder: Path) -> ConfigFile:
    aliases = {name: name.replace(" ", "-") for names in NAMES_OF.values() for name in names}
    rooms = (f"{aliases[name]}@example.com,{name}\n" for name in NAMES_OF["room"])
    (folder / "rooms.csv").write_text("aliases,name\n" + "".join(rooms))
    rules = (RULE.format(name, aliases[name]) for name in NAMES_OF["rule"])
    (folder / "rules.toml").write_text("".join(rules))
    (folder / "config.toml").write_text(CONFIG)
    return ConfigFile(folder / "config.toml")


def _answers(chosen: random.Random, now: float) -> dict[str, Any]:
    """Return what a server answers."""
    in_force = chosen.randrange(10**6)
    policy = {"policy_hash": "a" * 16, "activated_at": now - in_force}
    plugins = [plugin_state(name, hooks=[*ENDPOINTS]) for name in PLUGINS]
    plugins[PLUGINS.index("newer")]["mode"] = "shadow"
    status = status_document(
        config=policy | {"age": in_force},
        audit={"status": "healthy", "lost": 0, "spooled_bytes": 0, "synced_at": now - 2},
        plugins=plugins,
        nodes=[{"node": "a", "age": 3, "calls": chosen.randrange(10**5), "last_call": now - 3}],
        refused={"unauthorised": chosen.randrange(5000)},
        uptime=chosen.random() * 10**6,
        workers=chosen.randrange(1, 40),
        memory={"resident_bytes": chosen.randrange(10**9)},
        version="next",
    )
    status["audit"] |= {name: chosen.randrange(10**9) for name in ("records", "free_bytes")}
    known = policy | {"version": "next", "plugins": ["rules"], "bundle": None, "since": now - 9}
    servers = [
        known | {"instance": name, "url": f"https://{name}", "last_call": now - 4}
        for name in ("oslo", "bergen")
    ]
    fleet = {"servers": servers, "differences": []}
    return {"/status": status, "/fleet": fleet, "/plugins/meetings/meetings": {"items": []}}


def _numbers(value: Any) -> Iterator[float]:
    """Yield all numbers of a document, and of how many items it has lists."""
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, dict | list):
        yield len(value)
        parts = value.values() if isinstance(value, dict) else value
        yield from chain.from_iterable(map(_numbers, parts))


@contextmanager
def _clock(now: int) -> Iterator[None]:
    """Let it be a moment in milliseconds."""

    class Frozen(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Frozen":
            return cls.fromtimestamp(now / 1000, tz)

    with ExitStack() as stack:
        stack.enter_context(patch("time.time", lambda: now / 1000))
        stack.enter_context(patch.object(index, "POLL_INTERVAL_S", 0.005))
        for module in (app, live, periods, query):
            stack.enter_context(patch.object(module, "datetime", Frozen))
        yield


async def compare(folder: Path, seed: int, lines: int, dry_runs: DryRuns) -> list[str]:
    """Compare all pages of one generated audit; return what differs on each, empty for nothing."""
    chosen = random.Random(seed)
    now, zone = chosen.randrange(*TIMES), ZoneInfo(chosen.choice(ZONES))
    events = varied_audit.events(lines, seed, now)
    files = [*varied_audit.files(events, seed)]
    first, file, found = chosen.randrange(len(files)), folder / "audit.jsonl", list[str]()
    with _clock(now):
        parts = console_from(_config(folder))
        server = _Server(parts.config)
        server.answers = answers = _answers(chosen, now / 1000)
        console = replace(parts, server=server, dry_runs=dry_runs)
        tenants, kept = Tenants(parts.config.settings.tenants), parts.config.folder
        for place, (content, _) in enumerate(files[:first]):
            # As by a console that was stopped then, in small segments.
            file.write_bytes(content)
            writer = IndexWriter(kept / "index", file, 1 << 40, 40, tenant_of=tenants.of)
            while writer.step():
                pass
            writer.close()
            generated_audit.rotate(file, place, compressed=place % 2 == 0)
        audit = Audit(
            Count(events, now, zone),
            answers["/status"]["plugins"],
            OF_CONFIG.union(
                form(one) for one in {*_numbers([answers, now / 1000])} for form in OF_SERVER
            ),
            NAMES_OF,
            sum(damaged for _, damaged in files[first:]),
            kept,
        )
        async with TestClient(TestServer(app.create_app(console))) as client:
            for place, (content, _) in enumerate(files[first:], first):
                if file.exists():
                    generated_audit.rotate(file, place, compressed=place % 3 == 0)
                file.write_bytes(content)
            end, state = time.monotonic() + HANG_S, console.index.state
            while state.lines != len(events) or state.behind_bytes:
                assert time.monotonic() < end, f"{state}, but {len(events)} lines were written"
                await asyncio.sleep(0.005)
                state = console.index.state
            link = LoginLinks(kept).create("ann", Role.ADMIN)
            origin = {hdrs.ORIGIN: str(client.make_url("/")).rstrip("/")}
            await client.post("/login", data={"link": link}, headers=origin, allow_redirects=False)
            client.session.cookie_jar.update_cookies({"zone": zone.key}, client.make_url("/"))
            for path, figures in pages(audit, chosen):
                reply = await client.get(path, allow_redirects=False)
                assert reply.status == HTTPStatus.OK, path
                differs = difference(await reply.text(), audit, figures)
                found.append(differs and f"seed {seed}, {path}: {differs}")
    return found


def difference(content: str, audit: Audit, figures: Callable[[Page], Figures]) -> str:
    """Return what differs on a page; empty for nothing."""
    page, selector = Page(content), ""
    try:
        for selector, counted in chain(figures(page), ((name, None) for name in NAMES)):
            page.expect(selector, counted)
        selector = "others"
        page.expect_no_more(audit.of_server)
    except Difference as error:
        return f"{selector}: {error}"
    return ""


def pages(audit: Audit, chosen: random.Random) -> Iterator[tuple[str, Callable[[Page], Figures]]]:
    """Yield each page with its figures; of the many filters, some are chosen each time."""
    count = audit.count

    def page(path: str, figures: Callable[..., Figures], *about: Any, **asked: str) -> Any:
        return f"{path}?{urlencode(asked)}", lambda one: figures(one, audit, *about)

    for span in TITLES:
        name = chosen.choice(PLUGINS)
        yield page("/", page_figures.overview, span, span=span)
        yield page("/plugins", page_figures.plugins, span, span=span)
        yield page(f"/plugins/{name}", page_figures.plugin, span, name, span=span)
    values = [{name: value} for one in count.lines for name, value in one.values.items()]
    steps = [s for one in count.lines for s in one.steps if s["outcome"] in FAULTS]
    period = {"since": _second(count.now - 30 * HOUR), "until": _second(count.now - HOUR)}
    views = [{}, period, {"requests": "1"}, {"slower": "50"}, {"event": "shadow"}]
    views += [{**chosen.choice(values), **chosen.choice((period, {}))} for _ in range(3)]
    views += [{name: one[name] for name in ("plugin", "outcome")} for one in steps[:1]]
    for view in views:
        # A filter by the plugin that decided has another name than one by a plugin that was asked.
        renamed = {} if "outcome" in view else {"plugin": "decided_by"}
        asked = {renamed.get(name, name): value for name, value in view.items()}
        yield page("/decisions", page_figures.decisions, asked, **asked)
    answered = [one for one in count.lines if one.kind == "decision"]
    for line in chosen.sample(answered, min(2, len(answered))):
        yield page(f"/decisions/{line.event['decision_id']}", page_figures.decision, line)
    for by in chosen.sample((*KINDS, "all", "rule"), 4):
        asked = chosen.choice(({}, {"each": "day"}, {"each": "hour", **period}, {"span": "24h"}))
        yield page("/calls", page_figures.calls, by, asked, by=by, **asked)
        yield page("/calls.csv", page_figures.calls_csv, by, asked, by=by, **asked)
    for kind, by_hits in (("room", {"show": "hits"}), ("rule", {"sort": "hits"})):
        for asked in ({}, {"show": "unhit"}, {**by_hits, "days": "3"}):
            yield page(f"/{kind}s", page_figures.hits, kind, asked, **asked)
    yield page("/changes", page_figures.changes, None)
    for one in chosen.sample(count.changes, min(1, len(count.changes))):
        yield page("/changes", page_figures.changes, one.at, at=str(one.at))
    caller = chosen.choice(varied_audit.PEOPLE).lower()
    yield page("/blocks", page_figures.blocked, caller, kind="caller", alias=caller)
    yield page("/meetings", page_figures.meetings)
    yield page("/servers", page_figures.servers)
    yield page("/nodes", lambda *_: iter(()))
    yield page("/audit", page_figures.access_log)


def _second(at: int) -> str:
    return f"{datetime.fromtimestamp(at // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def run(audits: int = 1000, seed: int = 1) -> Iterator[str]:
    """Compare so many audits; yield what differs, and at last what was done."""
    generated_audit.templates()  # made before there is an event loop
    pages = wrong = 0
    with tempfile.TemporaryDirectory(prefix="console-pages-") as name, asyncio.Runner() as runner:
        process = _DryRuns(_config(Path(name)).path)
        for one in range(seed, seed + audits):
            with tempfile.TemporaryDirectory(prefix="console-pages-") as folder:
                lines = LINES[one % len(LINES)]
                found = runner.run(compare(Path(folder), one, lines, process))
            differing = [f"FAILED: {text}" for text in found if text]
            pages, wrong = pages + len(found), wrong + len(differing)
            yield from differing
        runner.run(DryRuns.aclose(process))
    equal = f"{pages - wrong:,} of {pages:,} pages"
    yield f"{audits:,} audits: {equal} have the figures of a count of the lines"
