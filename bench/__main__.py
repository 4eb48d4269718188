"""Command ``python -m bench [SCENARIO ...]``; the exit code is 1 if a goal is missed."""

import secrets
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from bench import report
from bench.cores import TooFewCores, serving_and_loading
from bench.cpu import ThreadEnded
from bench.findings import Finding
from bench.lab import Lab, Terms
from bench.load import LoadFailed, WrkMissing, require_wrk
from bench.scenarios import DEFAULT, SCENARIOS
from bench.servers import NotServing
from bench.verification import VerificationError

_PAGE = 150
_FAILURES = (NotServing, VerificationError, LoadFailed, ThreadEnded, OSError)


@click.command()
@click.argument("scenario", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option("--rounds", default=12, show_default=True, type=click.IntRange(1, 100))
@click.option("--seconds", default=2, show_default=True, type=click.IntRange(1, 10))
@click.option("--connections", default=64, show_default=True, type=click.IntRange(1, 256))
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the figures as JSON."
)
def main(
    scenario: tuple[str, ...], rounds: int, seconds: int, connections: int, json_path: Path | None
) -> None:
    """Measure the cost of a policy call. The default is every SCENARIO that takes seconds."""
    signal.signal(signal.SIGTERM, _leave)
    try:
        require_wrk()
        cores = serving_and_loading()
    except (WrkMissing, TooFewCores) as error:
        raise click.ClickException(str(error)) from error
    terms = Terms(rounds, seconds, connections)
    findings, failed = _measure(scenario or DEFAULT, terms, cores)
    report.show(Console(width=None if sys.stdout.isatty() else _PAGE), findings, terms)
    if json_path:
        report.write(json_path, findings, terms)
    sys.exit(1 if failed or report.missed(findings) else 0)


def _measure(
    names: tuple[str, ...], terms: Terms, cores: tuple[int, int]
) -> tuple[list[Finding], bool]:
    progress = Console(stderr=True, highlight=False)
    findings: list[Finding] = []
    failed = False
    for name in names:
        progress.print(f"[bold]{name}")
        with tempfile.TemporaryDirectory(prefix="pexpolicy-bench-") as folder:
            password = secrets.token_urlsafe(16)
            lab = Lab(Path(folder), terms, *cores, password, progress.print)
            try:
                findings += SCENARIOS[name](lab)
            except _FAILURES as error:
                failed = True
                progress.print(f"{name}: {error}", style="red", markup=False)
    return findings, failed


def _leave(_signal: int, _frame: FrameType | None) -> None:
    # SystemExit lets every context manager stop its server.
    sys.exit(143)


if __name__ == "__main__":
    main(prog_name="python -m bench")
