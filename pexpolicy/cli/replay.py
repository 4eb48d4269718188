"""``pexpolicy replay``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from pexpolicy.cli.audit.input import PROGRESS_INTERVAL_S, paths_of, period, refuse, time_options
from pexpolicy.cli.common import config_option, fail
from pexpolicy.config.settings import ConfigError
from pexpolicy.replay.job import Job
from pexpolicy.replay.records import Exactness
from pexpolicy.replay.replayer import Selection
from pexpolicy.replay.report_json import as_json
from pexpolicy.replay.report_text import TextReport
from pexpolicy.replay.result import ReplayResult
from pexpolicy.replay.run import run_replay
from pexpolicy.replay.workers import WorkerFailedError

EX_DIFFERS = 1
EX_UNREADABLE = 2


class Share(click.ParamType[float]):
    """A part of all calls: ``0.5%``, or a number of calls per call such as ``0.005``."""

    name = "share"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the part, 0 to 1; fail for anything else."""
        text = str(value).strip()
        try:
            part = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            part = -1.0
        if not 0 <= part <= 1:
            self.fail(f"{text!r} is no part of the calls: write 0.5%", param, ctx)
        return part


@click.command()
@config_option
@click.argument("records", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--against", metavar="FILE", help="Compare with the answers of this configuration.")
@click.option(
    "--only",
    multiple=True,
    metavar="WORD",
    help="Report the changes with this action, "
    "endpoint, plugin or field. May be given several times; all must fit.",
)
@click.option(
    "--ignore",
    multiple=True,
    metavar="FIELD",
    help="A field that may differ, such as reason. May be given several times.",
)
@time_options
@click.option("--network", is_flag=True, help="Let plugins ask databases and other servers.")
@click.option(
    "--max-changed",
    type=Share(),
    default=0.0,
    metavar="SHARE",
    help="Exit with 0 up to this part of changed calls, as in 0.5%.",
)
@click.option(
    "--processes",
    type=click.IntRange(0, 64),
    help="Number of processes; by default one for each processor where there is enough to do.",
)
@click.option("--json", "print_json", is_flag=True, help="Print JSON.")
def replay(  # noqa: PLR0913, PLR0917 - the options of the command
    config: Path,
    records: tuple[Path, ...],
    against: str | None,
    only: tuple[str, ...],
    ignore: tuple[str, ...],
    since: str | None,
    until: str | None,
    max_changed: float,
    processes: int | None,
    *,
    utc: bool,
    network: bool,
    print_json: bool,
) -> None:
    """Show what a configuration would answer to recorded calls, and what changes.

    RECORDS are files of any of these forms, also compressed, and folders with such files: the audit
    log, with the files rotated away from it; the support log of Infinity, or a snapshot with it;
    the access log of a proxy; a URL a line; cases of pexpolicy test. Without RECORDS, the audit
    log of the configuration is read.

    Each call is asked at its own time, and compared with what was sent, or with the answer of
    another configuration. Plugins cannot reach the network without --network.

    Exit code 0: the answers are equal, or no more than --max-changed differ. 1: more differ. 2: a
    record cannot be read, there is none, or wrong usage. 75 and 78: as for serve.
    """
    times = period(since, until, utc=utc)
    bounds = {name: None if at is None else at.timestamp() for name, at in times.items()}
    selection = Selection(**bounds, ignore=frozenset(ignore), only=only)
    job = Job(config, None if against is None else Path(against), selection, network)
    paths = list(records) or paths_of(config, ())
    progress = _Progress(enabled=sys.stderr.isatty())
    try:
        result = run_replay(paths, job, processes=processes, progress=progress)
    except ConfigError as error:
        progress.clear()
        fail(error)
    except (OSError, WorkerFailedError) as error:
        progress.clear()
        refuse(str(error))
    progress.clear()
    if print_json:
        click.echo(json.dumps(as_json(result), indent=2, ensure_ascii=False))
    else:
        TextReport().show(result)
    sys.exit(_exit_code(result, max_changed))


def _exit_code(result: ReplayResult, max_changed: float) -> int:
    if result.share > max_changed:
        return EX_DIFFERS
    records = result.tally.records
    return EX_UNREADABLE if records[Exactness.UNREADABLE] or not records.total() else 0


class _Progress:
    """A line on standard error that tells how far the replay is."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._began = self._shown = time.monotonic()
        self._width = 0

    def __call__(self, records: int, position: int, size: int) -> None:
        """Show the records replayed so far, and the bytes read of all bytes."""
        now = time.monotonic()
        if not self._enabled or now - self._shown < PROGRESS_INTERVAL_S:
            return
        self._shown = now
        part = min(position / size, 1.0) if size else 1.0
        left = (now - self._began) * (1 - part) / part if part else 0.0
        text = f"{records:,} records, {part:.0%}, {left:.0f} s left"
        self._width = max(self._width, len(text))
        click.echo(f"\r{text:<{self._width}}", nl=False, err=True)

    def clear(self) -> None:
        """Remove the line."""
        if self._width:
            click.echo(f"\r{'':<{self._width}}\r", nl=False, err=True)
