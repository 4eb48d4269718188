"""What somebody sees who watches: the progress while it runs, and the findings at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from pexpolicy.conformance.findings import Finding, Level
from pexpolicy.conformance.report import NOT_FOUND, Report
from pexpolicy.conformance.runner import StepResult
from pexpolicy.text import printable

RED, YELLOW, GREEN = "red", "yellow", "green"


class ProgressBar:
    """The line that moves while the probe runs; nothing where nobody watches."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total, said="")
        self._violations = self._warnings = 0

    def tick(self, played: StepResult) -> None:
        """Show one more step."""
        self._violations += sum(f.level is Level.VIOLATION for f in played.findings)
        self._warnings += sum(f.level is Level.WARNING for f in played.findings)
        self._progress.update(
            self._task,
            advance=1,
            description=played.flow,
            said=f"[{RED}]{self._violations}✗[/] [{YELLOW}]{self._warnings}![/] "
            f"[dim]{played.seconds * 1000:.0f} ms[/]",
        )


@contextmanager
def ticking(console: Console, total: int) -> Iterator[ProgressBar]:
    """A ticker on a console; it is gone at the end, and never shows where there is no terminal."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("[bold cyan]{task.description:<26}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with progress:
        yield ProgressBar(progress, total)


def show(console: Console, report: Report) -> None:
    """Print the flows as a table, the findings, and the verdict."""
    console.print(_flows(report))
    for finding, endpoint, steps in report.grouped():
        console.print(_finding(finding, endpoint, len(steps)))
        console.print(_where(steps[0]), soft_wrap=True)
    console.print()
    console.print(_verdict(report), soft_wrap=True)


def _flows(report: Report) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("flow")
    for column in ("requests", "violations", "warnings", "slowest ms"):
        table.add_column(column, justify="right")
    for flow, steps in report.flows():
        counts = [
            sum(f.level is level for played in steps for f in played.findings) for level in Level
        ]
        table.add_row(
            Text(flow, style=RED if counts[0] else YELLOW if counts[1] else GREEN),
            str(len(steps)),
            *(_count(n, style) for n, style in zip(counts, (RED, YELLOW), strict=True)),
            Text(f"{max(played.seconds for played in steps) * 1000:.1f}", style="dim"),
        )
    return table


def _count(number: int, style: str) -> Text:
    return Text(str(number) if number else "-", style=style if number else "dim")


def _finding(finding: Finding, endpoint: str, times: int) -> Text:
    wrong = finding.level is Level.VIOLATION
    text = Text("\n")
    text.append(f"{finding.level.value} ", style=f"bold {RED if wrong else YELLOW}")
    text.append(f"{finding.topic.value}", style="bold")
    text.append(f" in {endpoint}" if endpoint else "", style="cyan")
    text.append(f", {times} times" if times > 1 else "", style="dim")
    text.append(f"\n  {printable(finding.text)}")
    text.append(f" [{finding.mark}]" if finding.mark else "", style="dim")
    return text


def _where(played: StepResult) -> Text:
    text = Text(f"  {played.flow}: {played.step}", style="dim")
    if played.target:
        shown = (
            played.target if len(played.target) <= MAX_TARGET else played.target[:MAX_TARGET] + "…"
        )
        text.append(f"\n  {played.method} {shown}")
    return text


MAX_TARGET = 2000
"""Characters of a target that are shown; JSON has all of them."""


def _verdict(report: Report) -> Text:
    violations, warnings = report.count(Level.VIOLATION), report.count(Level.WARNING)
    tail = f"{len(report.played)} requests, slowest {report.slowest * 1000:.0f} ms"
    warned = f"{warnings} warning{'' if warnings == 1 else 's'}"
    if report.clean and report.only_404:
        text = f"{report.url}: {NOT_FOUND} {warned}; {tail}"
        return Text(text, style=f"bold {YELLOW}")
    if report.clean:
        return Text(f"{report.url} keeps the contract: {warned}; {tail}", style=f"bold {GREEN}")
    broken = f"{violations} violation{'' if violations == 1 else 's'}"
    return Text(
        f"{report.url} breaks the contract: {broken}, {warned}; {tail}", style=f"bold {RED}"
    )
