"""Commands ``pexpolicy replay`` and ``pexpolicy test``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from pexpolicy.cli.audit import paths_of, since_option
from pexpolicy.cli.common import (
    build,
    config_option,
    examples,
    json_option,
    print_json,
    refuse,
    repeatable,
)
from pexpolicy.cli.http_client import PASSWORD, profile
from pexpolicy.models.context import DryRunClock
from pexpolicy.policy import BuildContext
from pexpolicy.replay import report
from pexpolicy.replay.records import Exactness
from pexpolicy.replay.report import parts, rows, title
from pexpolicy.replay.run import Job, ServerAddress, ServerFailedError, Tally, run_replay
from pexpolicy.testing import report as tests
from pexpolicy.testing.cases import chosen_or_exit, load_cases, run_cases
from pexpolicy.testing.report import print_parts, report_option, write_reports

EX_DIFFERS = 1
EX_UNREADABLE = 2


def share(text: str) -> float:
    """Return a part of all calls, ``0.5%`` or a fraction such as ``0.005``."""
    try:
        part = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        part = -1.0
    if not 0 <= part <= 1:
        raise click.BadParameter(f"{text!r} is not a part of the calls: write 0.5%")
    return part


def other_side(against: str) -> Path | ServerAddress:
    """Return the configuration, or the server of a policy profile."""
    if not against.startswith(("http://", "https://")):
        return Path(against)
    return ServerAddress(*profile(against))


@click.command(
    epilog=examples(
        "pexpolicy replay audit.jsonl",
        "pexpolicy replay audit.jsonl --against new.toml --only reject",
        "pexpolicy replay support.log --since yesterday --report page.html",
    )
)
@config_option
@click.argument("records", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--against",
    type=other_side,
    metavar="FILE|URL",
    help="Compare with the answers of this configuration, or of the server of this policy profile: "
    f"https://USER@SERVER takes the password from {PASSWORD}.",
)
@repeatable(
    "--only",
    metavar="WORD",
    help="Report the changes with this action, endpoint, plugin or field. May be given several "
    "times; all must fit.",
)
@repeatable(
    "--ignore",
    metavar="FIELD",
    help="A field that may differ, such as reason. May be given several times.",
)
@since_option
@click.option(
    "--max-changed",
    type=share,
    default="0",
    metavar="SHARE",
    help="Exit with 0 up to this part of changed calls, such as 0.5%.",
)
@json_option
@report_option
def replay(  # noqa: PLR0913 - the options of the command
    *,
    config: Path,
    records: tuple[Path, ...],
    against: Path | ServerAddress | None,
    only: tuple[str, ...],
    ignore: tuple[str, ...],
    since: datetime | None,
    max_changed: float,
    as_json: bool,
    reports: tuple[Path, ...],
) -> None:
    """Show what a configuration would change for recorded calls.

    RECORDS are files of any of these forms, also with gzip, and folders with such files: the audit
    log, with the files rotated away from it; the support log of Infinity; the access log of a
    proxy; a URL a line. Without RECORDS, the audit log of the configuration is read.

    Each call is asked at its own time, and compared with what was sent, or with another answer.
    Plugins cannot reach the network. JSON and a page have the coverage too: which
    rooms, rules and subnets decided.

    Exit code 0: the answers are equal, or no more than --max-changed differ. 1: more differ. 2: a
    record cannot be read, none can be replayed, or wrong usage. 75 and 78: as for serve.
    """
    job = Job(
        config,
        against,
        since=since,
        ignore=frozenset(ignore),
        only=only,
        coverage=as_json or any(path.suffix == ".html" for path in reports),
    )
    result = _replayed(records, job)
    if as_json:
        print_json(report.as_json(result))
    else:
        print_parts(parts(result))
    heading = f"Replay of {title(result)}"
    write_reports(reports, "pexpolicy replay", rows(result), heading, [*parts(result)])
    sys.exit(_exit_code(result, max_changed))


def _replayed(records: Sequence[Path], job: Job) -> Tally:
    """Replay records, and show the progress on a terminal; print an error and exit."""
    out = Console(stderr=True)
    bar = Progress(console=out, transient=True, disable=not out.is_terminal)
    task = bar.add_task("", total=1.0)

    def progress(tally: Tally, share: float) -> None:
        text = f"{sum(tally.records.values()):,} records, {tally.changed:,} changed"
        bar.update(task, completed=share, description=text)

    try:
        with bar:
            return run_replay(records or paths_of(job.config, ()), job, progress)
    except OSError as error:
        refuse(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except ServerFailedError as error:
        refuse(str(error))


def _exit_code(tally: Tally, max_changed: float) -> int:
    if tally.share > max_changed:
        return EX_DIFFERS
    records = tally.records
    if records[Exactness.EXACT] + records[Exactness.PARTIAL]:
        return EX_UNREADABLE if records[Exactness.UNREADABLE] else 0
    why = "for the reasons in the report" if records.total() else "there is no record of this time"
    click.secho(f"no call could be replayed: {why}", fg="red", err=True)
    return EX_UNREADABLE


@click.command(
    epilog=examples(
        "pexpolicy test cases.toml",
        "pexpolicy test cases.toml --only Reception --report coverage.html",
        "pexpolicy test cases/rooms.toml cases/rules.toml --report report.xml",
    )
)
@config_option
@click.argument("cases", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--only", "-k", default="", metavar="TEXT", help="Cases with TEXT in their name.")
@json_option
@report_option
def test(
    config: Path, cases: tuple[Path, ...], only: str, reports: tuple[Path, ...], *, as_json: bool
) -> None:
    """Run files of requests and expected decisions.

    JSON and a page have the coverage too: which rooms, rules and subnets decided.

    Exit code 0: all cases passed. 1: a case failed. 2: no case ran, or wrong usage. 75: a plugin
    cannot open what it needs. 78: the configuration cannot be used.
    """
    policy = build(config, context=BuildContext(wall_clock=DryRunClock()))
    run = asyncio.run(run_cases(policy, chosen_or_exit(cases, load_cases, only)))
    coverage = run.coverage
    page = [*tests.coverage_parts(coverage)]
    if as_json:
        covered = {"coverage": coverage.hooks(), "coverage_items": coverage.objects()}
        print_json({**tests.as_json(run.rows, run.seconds), **covered})
    else:
        is_page = any(path.suffix == ".html" for path in reports)
        tests.show(run.rows, run.seconds, [*tests.hook_parts(coverage), *(page if is_page else ())])
    write_reports(reports, "pexpolicy test", run.rows, "Coverage of the cases", page)
    sys.exit(EX_DIFFERS if not all(row.ok for row in run.rows) else 0)
