"""Experiments of a program: each runs in a folder of its own and is a row of one table."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from rich.console import Console
from rich.table import Table

from lab.load import Load
from tests.support.server_process import temporary_folder
from tests.support.waiting import wait_until


@dataclass
class Finding:
    """The result of one experiment, which succeeded if ``wrong`` is empty."""

    name: str
    trials: str
    answered: int = 0
    longest: float = 0.0
    """Seconds of the longest call."""
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_timed: ClassVar[bool] = True
    """False in short versions, which may share the machine: no duration is wrong then."""

    def expect(self, holds: object, otherwise: str) -> None:
        """Add what is wrong unless something holds."""
        if not holds:
            self.wrong.append(otherwise)

    def expect_within(self, seconds: float, most: float, what: str) -> None:
        """Add what took too long."""
        self.expect(seconds <= most or not self.is_timed, f"{what} took {seconds:.2f} s")

    def expect_soon(self, condition: Callable[[], object], otherwise: str) -> None:
        """Wait until a condition holds; add what is wrong if it does not even on a busy machine."""
        try:
            wait_until(condition)
        except AssertionError:
            self.wrong.append(otherwise)

    def of(self, calls: Load, may_fail: int = 0) -> Self:
        """Add what became of calls under load, of which so many may fail."""
        self.answered += len(calls.answered)
        self.longest = max(self.longest, calls.longest)
        self.notes.append(calls.summary)
        self.expect(calls.failed <= may_fail, f"{calls.failed} calls failed")
        self.expect(not calls.late, f"{calls.late} calls were late")
        return self


Experiment = Callable[[Path], Awaitable[Finding]]


def run(experiments: Mapping[str, Experiment], only: Sequence[str] = ()) -> int:
    """Run the experiments, or some of them, and print a table; return 1 if one found a fault."""
    console = Console()
    table = Table("experiment", "trials", "answered", "longest call", "seconds", "")
    failed = False
    for name in only or experiments:
        began = time.monotonic()
        with temporary_folder(f"{name}-") as folder:
            finding = asyncio.run(_run(experiments[name], folder, name))
        for text in finding.wrong[:20]:
            console.print(f"{finding.name}: {text}", style="red", markup=False)
        failed |= bool(finding.wrong)
        table.add_row(
            finding.name,
            finding.trials,
            f"{finding.answered:,}",
            f"{finding.longest * 1000:.0f} ms",
            f"{time.monotonic() - began:.0f}",
            "; ".join(["[red]wrong" if finding.wrong else "[green]ok", *finding.notes]),
        )
    console.print(table)
    return int(failed)


async def _run(experiment: Experiment, folder: Path, name: str) -> Finding:
    try:
        return await experiment(folder)
    except PermissionError as error:
        return Finding(name, "not run", notes=[str(error)])
