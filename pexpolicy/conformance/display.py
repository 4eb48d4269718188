"""The report of a conformance test on a terminal, and the progress bar while it runs."""

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
STYLES = {Level.CONTRACT: RED, Level.OPERATION: RED, Level.FALLBACK: YELLOW, Level.WARNING: YELLOW}
MAX_TARGET = 160
"""Characters of a target that are shown; the JSON report has all of them."""


class ProgressBar:
    """The line that shows the progress on a terminal."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total, counts="")
        self._failures = self._others = 0

    def advance(self, result: StepResult) -> None:
        """Show one more step."""
        self._failures += sum(f.level.fails for f in result.findings)
        self._others += sum(not f.level.fails for f in result.findings)
        self._progress.update(
            self._task,
            advance=1,
            description=result.flow,
            counts=f"[{RED}]{self._failures}✗[/] [{YELLOW}]{self._others}![/] "
            f"[dim]{result.seconds * 1000:.0f} ms[/]",
        )


@contextmanager
def progress_bar(console: Console, total: int) -> Iterator[ProgressBar]:
    """Show a progress bar until the block ends, on a terminal only."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("[bold cyan]{task.description:<26}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[counts]}"),
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
    for column in ("requests", *(level.value for level in Level), "slowest ms"):
        table.add_column(column, justify="right")
    for flow, steps in report.flows():
        counts = {
            level: sum(f.level is level for result in steps for f in result.findings)
            for level in Level
        }
        style = next((STYLES[level] for level, count in counts.items() if count), GREEN)
        table.add_row(
            Text(flow, style=style),
            str(len(steps)),
            *(_count(count, STYLES[level]) for level, count in counts.items()),
            Text(f"{max(result.seconds for result in steps) * 1000:.1f}", style="dim"),
        )
    return table


def _count(number: int, style: str) -> Text:
    return Text(str(number) if number else "-", style=style if number else "dim")


def _finding(finding: Finding, endpoint: str, times: int) -> Text:
    text = Text("\n")
    text.append(f"{finding.level.value} ", style=f"bold {STYLES[finding.level]}")
    text.append(f"{finding.topic.value}", style="bold")
    text.append(f" in {endpoint}" if endpoint else "", style="cyan")
    text.append(f", {times} times" if times > 1 else "", style="dim")
    text.append(f"\n  {printable(finding.text)}")
    text.append(f" [{finding.mark}]" if finding.mark else "", style="dim")
    return text


def _where(result: StepResult) -> Text:
    text = Text(f"  {result.flow}: {result.step}", style="dim")
    if result.target:
        cut = len(result.target) > MAX_TARGET
        target = result.target[:MAX_TARGET] + "…" if cut else result.target
        text.append(f"\n  {result.method} {target}")
    return text


def _verdict(report: Report) -> Text:
    nouns = {
        Level.CONTRACT: "contract violation",
        Level.OPERATION: "operation fault",
        Level.FALLBACK: "fallback",
        Level.WARNING: "warning",
    }
    numbers = {level: report.count(level) for level in Level}
    counted = ", ".join(
        f"{numbers[level]} {noun}{'' if numbers[level] == 1 else 's'}"
        for level, noun in nouns.items()
        if numbers[level] or level is Level.WARNING
    )
    tail = f"{counted}; {len(report.results)} requests, slowest {report.slowest * 1000:.0f} ms"
    if report.passes and report.only_404:
        return Text(f"{report.url}: {NOT_FOUND} {tail}", style=f"bold {YELLOW}")
    if report.passes:
        return Text(f"{report.url} keeps the contract: {tail}", style=f"bold {GREEN}")
    verdict = "breaks the contract" if numbers[Level.CONTRACT] else "fails in operation"
    return Text(f"{report.url} {verdict}: {tail}", style=f"bold {RED}")
