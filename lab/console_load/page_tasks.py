"""The tasks of a page, by the time that they took and by that in which their thread ran."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Page

LONG_MS = 50
"""A task that takes longer delays a frame, as the Long Tasks API has it."""
_CATEGORIES = "-*,disabled-by-default-devtools.timeline,blink.user_timing"
_MARK = "the page"
"""A mark that shows which thread is that of the page: the browser has pages of its own."""
_TASK = "RunTask"
_POLL_MS = 20


@dataclass(frozen=True, slots=True)
class Task:
    """One task of the thread that runs the script of the page, and lays it out and paints it."""

    at: float
    """Seconds since the first one."""
    wall_ms: float
    thread_ms: float
    """The time in which the thread ran: for the rest it waited for other processes."""

    @property
    def is_ours(self) -> bool:
        """Return whether it took too long by itself, and not by waiting for the processor."""
        return self.thread_ms > LONG_MS


@contextmanager
def traced(page: Page) -> Iterator[list[Task]]:
    """Yield a list that at the end has the tasks of the page meanwhile."""
    assert page.context.browser is not None
    session = page.context.browser.new_browser_cdp_session()
    events: list[dict[str, Any]] = []
    ends: list[object] = []
    session.on("Tracing.dataCollected", lambda message: events.extend(message["value"]))
    session.on("Tracing.tracingComplete", lambda message: ends.append(message))  # noqa: PLW0108 - Playwright marks it
    session.send("Tracing.start", {"categories": _CATEGORIES, "transferMode": "ReportEvents"})
    page.evaluate(f"performance.mark('{_MARK}')")
    tasks: list[Task] = []
    yield tasks
    session.send("Tracing.end")
    while not ends:
        page.wait_for_timeout(_POLL_MS)
    session.detach()
    threads = {(event["pid"], event["tid"]) for event in events if event["name"] == _MARK}
    assert len(threads) == 1, "the mark is not in the trace"
    found = [
        (event["ts"], event["dur"], event.get("tdur", event["dur"]))
        for event in events
        if event["name"] == _TASK and (event["pid"], event["tid"]) in threads and "dur" in event
    ]
    first = min((at for at, _, _ in found), default=0)
    tasks += [Task((at - first) / 1e6, wall / 1000, thread / 1000) for at, wall, thread in found]
