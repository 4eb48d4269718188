"""The server at a steady rate of calls, in turns with a live page of the console and without."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, Page

from bench import cores, cpu, load
from bench.findings import Spread
from lab.console_load import page_tasks
from lab.console_load.page_tasks import LONG_MS, Task
from pexpolicy.testing.requests import composed, url_of
from tests.support import browser, company
from tests.support.processes import pin

CONNECTIONS = 64
ANSWER_MS = 2
"""Of a pause between two calls of a connection, for the answer: rather more calls than asked."""
SETTLE_S = 3.0
"""After the console was stopped or continued: it indexes what it has missed."""
ORDERS = ((True, False, False), (False, True, False), (False, False, True))
"""Which of the three runs of a round is the one with the page."""
MAX_RATIO = 1.02
FIGURES = {
    "cpu": "processor time of a call",
    "p99": "p99 of the client, on the processor of the browser",
}
SHOWN = 20
"""Tasks that are listed."""


@dataclass(frozen=True, slots=True)
class Run:
    """The server in one run."""

    p99: float
    """Milliseconds that the client measured, which shares its processor with the browser."""
    cpu: float
    """Microseconds of processor time for each call."""
    rate: float
    """Calls a second."""


@dataclass(slots=True)
class Compared:
    """Rounds of runs, and what the page showed."""

    rounds: list[tuple[Run, Run, Run]] = field(default_factory=list)
    """A run with the page, and two without: what differs between these is noise."""
    tasks: list[Task] = field(default_factory=list)
    """All tasks of the page in the runs with it."""
    console: list[float] = field(default_factory=list)
    """The share of a processor that the console took in each run with the page."""
    left_out: str = ""
    """What the page tells of lines that it does not show."""
    rows: int = 0

    def ratio(self, name: str) -> Spread:
        """Return the ratio of a figure with the page to that without, paired."""
        figures = [[getattr(run, name) for run in runs] for runs in self.rounds]
        return Spread.of([2 * live / (one + other) for live, one, other in figures])

    def failed(self, rate: float) -> list[str]:
        """Return the limits that are exceeded, with the rate of calls that was asked for."""
        lowest = min(run.rate for runs in self.rounds for run in runs)
        found = (
            ("tasks of the page take too long", any(task.is_ours for task in self.tasks)),
            ("the console costs the server too much", self.ratio("cpu").median > MAX_RATIO),
            (f"a run had {lowest:.0f} calls a second, not {rate}", lowest < rate),
        )
        return [text for text, is_wrong in found if is_wrong]

    def report(self) -> Iterator[str]:
        """Yield lines of text."""
        for number, runs in enumerate(self.rounds, 1):
            figures = [f"{run.p99:.2f} ms, {run.cpu:.0f} us a call" for run in runs]
            yield f"{number:2}  {' | '.join(figures)}"
        for name, title in FIGURES.items():
            ratio = self.ratio(name)
            noise = Spread.of([getattr(b, name) / getattr(a, name) for _, a, b in self.rounds])
            yield (
                f"{title}: {ratio.median:.3f} times that without the page "
                f"({ratio.low:.3f}-{ratio.high:.3f}); twice without it "
                f"{noise.median:.3f} ({noise.low:.3f}-{noise.high:.3f})"
            )
        yield f"console: {median(self.console):.1%} of a processor"
        busy = sum(task.thread_ms for task in self.tasks) / 1000
        yield f"page: {busy:.1f} s of script, layout and paint in {len(self.rounds)} runs"
        tasks = [task for task in self.tasks if task.wall_ms > LONG_MS]
        tasks.sort(key=lambda task: -task.thread_ms)
        longest = [f"{t.wall_ms:.0f} ({t.thread_ms:.0f}) at {t.at:.0f} s" for t in tasks[:SHOWN]]
        yield (
            f"page: {len(tasks)} tasks took over {LONG_MS} ms, and in "
            f"{sum(task.is_ours for task in tasks)} the thread itself ran that long; "
            f"all ms (of the thread), and when: {', '.join(longest) or 'none'}"
        )
        yield f"page: {self.rows} rows, {self.left_out!r}"


def compare(folder: Path, rounds: int, seconds: int, rate: int) -> Compared:
    """Measure rounds of three runs. With two processors, the server has one of its own."""
    compared = Compared()
    usable = sorted(os.sched_getaffinity(0))
    with (
        cores.pinned(usable[-1]),
        browser.chromium() as chromium,
        company.running(folder) as running,
    ):
        console = running.console.pid
        pin(running.server.pid, {usable[0]})
        calls = folder / "calls"
        calls.write_text("\n".join(["", "", *_targets()]))
        page = _live_page(chromium, running)
        for number in range(rounds):
            live, without = [], []
            for is_live in ORDERS[number % len(ORDERS)]:
                if not is_live:
                    os.kill(console, signal.SIGSTOP)
                    time.sleep(SETTLE_S)
                    without.append(_run(running, calls, seconds, rate))
                    os.kill(console, signal.SIGCONT)
                    continue
                with page_tasks.traced(page) as tasks:
                    time.sleep(SETTLE_S)
                    before, began = cpu.reading(console), time.monotonic()
                    live.append(_run(running, calls, seconds, rate))
                    spent = cpu.spent(before, cpu.reading(console))
                compared.console.append(spent / 1e9 / (time.monotonic() - began))
                compared.tasks += tasks
            compared.rounds.append((live[0], without[0], without[1]))
        compared.left_out = page.inner_text(".left-out")
        compared.rows = page.locator("tbody[data-rows] tr").count()
    return compared


def _targets() -> Iterator[str]:
    for number in range(200):
        alias = ("engineering", "board", "helpdesk", f"room{number}")[number % 4]
        request = composed("service_configuration", "sip", {"local_alias": f"{alias}@example.com"})
        yield str(url_of(request))


def _live_page(chromium: Browser, running: company.Company) -> Page:
    context = chromium.new_context(base_url=running.console.url)
    page = context.new_page()
    page.goto(f"/login?link={running.console.link('viewer')}")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector("nav")
    page.goto("/decisions")
    page.wait_for_selector(".fresh:has-text('Live')")
    return page


def _run(running: company.Company, calls: Path, seconds: int, rate: int) -> Run:
    before = cpu.reading(running.server.pid)
    target = load.Target("server", running.server.port, calls)
    pause_ms = max(1000 * CONNECTIONS // rate - ANSWER_MS, 1)
    with cores.at_once():
        totals = load.run(
            [target], seconds=seconds, connections=CONNECTIONS, core=None, pause_ms=pause_ms
        )["server"]
    spent = cpu.spent(before, cpu.reading(running.server.pid))
    return Run(totals.p99_us / 1000, spent / 1000 / totals.requests, totals.requests / seconds)
