"""Compare a server with a live page of the console and without: `python -m
lab.console_load [ROUNDS] [SECONDS] [RATE]`; exit code 1 if a limit is exceeded.

A round is one run with the page and two without, whose ratio is what the machine itself varies.
Twenty rounds take about 18 minutes.
"""

import sys
import tempfile
from pathlib import Path
from statistics import median

from lab.console_load.page_tasks import LONG_MS, Task
from lab.console_load.run import Compared, compare

DEFAULTS = (20, 15, 2000)
"""Rounds, seconds of each run, and calls a second: five minutes with the page."""
MAX_RATIO = 1.02
LIMITED = {"cpu": "processor time of a call"}
FIGURES = {**LIMITED, "p99": "p99 of the client, on the processor of the browser"}
SHOWN = 20
"""Tasks that are listed."""


def main(rounds: int, seconds: int, rate: int) -> int:
    """Print what was measured; return 1 if a limit is exceeded."""
    with tempfile.TemporaryDirectory(prefix="console-load-") as folder:
        found = compare(Path(folder), rounds, seconds, rate)
    sys.stdout.writelines(f"{text}\n" for text in report(found))
    failed = [
        text
        for text, is_wrong in (
            ("tasks of the page take too long", any(_is_ours(t) for t in found.long_tasks)),
            (
                "the console costs the server too much",
                any(found.ratio(name).median > MAX_RATIO for name in LIMITED),
            ),
            (f"a run had {found.rate:.0f} calls a second, not {rate}", found.rate < rate),
        )
        if is_wrong
    ]
    sys.stdout.writelines(f"FAILED: {text}\n" for text in failed)
    return 1 if failed else 0


def report(found: Compared) -> list[str]:
    """Return lines of text."""
    lines = [
        f"{number:2}  " + " | ".join(f"{run.p99:.2f} ms, {run.cpu:.0f} us a call" for run in runs)
        for number, runs in enumerate(found.rounds, 1)
    ]
    for name, title in FIGURES.items():
        ratio, noise = found.ratio(name), found.noise(name)
        lines.append(
            f"{title}: {ratio.median:.3f} times that without the page "
            f"({ratio.low:.3f}-{ratio.high:.3f}); twice without it "
            f"{noise.median:.3f} ({noise.low:.3f}-{noise.high:.3f})"
        )
    tasks = found.long_tasks
    ours = [task for task in tasks if _is_ours(task)]
    busy = sum(task.thread_ms for task in found.tasks) / 1000
    longest = [f"{t.wall_ms:.0f} ({t.thread_ms:.0f}) at {t.at:.0f} s" for t in tasks[:SHOWN]]
    lines.append(f"console: {median(found.console):.1%} of a processor")
    lines.append(f"page: {busy:.1f} s of script, layout and paint in {len(found.rounds)} runs")
    lines.append(
        f"page: {len(tasks)} tasks took over {LONG_MS} ms, and in {len(ours)} the thread itself "
        f"ran that long; all ms (of the thread), and when: {', '.join(longest) or 'none'}"
    )
    lines.append(f"page: {found.rows} rows, {found.left_out!r}")
    return lines


def _is_ours(task: Task) -> bool:
    """Return whether a task took too long by itself, and not by waiting for the processor."""
    return task.thread_ms > LONG_MS


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(*(numbers + list(DEFAULTS)[len(numbers) :])[:3]))
