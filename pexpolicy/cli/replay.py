"""``pexpolicy replay``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from pexpolicy.cli.audit.input import paths_of, period, refuse, time_options
from pexpolicy.cli.common import config_option, fail
from pexpolicy.cli.examples import examples
from pexpolicy.cli.http_client import authorization, cacert_option
from pexpolicy.cli.replay_options import show_walks
from pexpolicy.cli.replay_progress import ReplayProgress
from pexpolicy.cli.share import Share
from pexpolicy.config.settings import ConfigError
from pexpolicy.explain.explanation import LocalPolicyError
from pexpolicy.replay.job import Job
from pexpolicy.replay.records import Exactness
from pexpolicy.replay.replayer import Selection
from pexpolicy.replay.report_csv import as_csv
from pexpolicy.replay.report_html import as_html
from pexpolicy.replay.report_json import as_json
from pexpolicy.replay.report_junit import as_junit
from pexpolicy.replay.report_text import TextReport
from pexpolicy.replay.result import ReplayResult
from pexpolicy.replay.run import run_replay
from pexpolicy.replay.saved_cases import as_cases
from pexpolicy.replay.server import ServerAddress, ServerFailedError
from pexpolicy.replay.workers import WorkerFailedError

EX_DIFFERS = 1
EX_UNREADABLE = 2
REPORTS: dict[str, tuple[Callable[[ReplayResult], str], str]] = {
    "csv": (as_csv, "Write the groups of changes as CSV."),
    "junit": (as_junit, "Write the report as JUnit XML."),
    "html": (as_html, "Write the report as one page with charts."),
    "save_cases": (as_cases, "Write an example of each group as a case of pexpolicy test."),
}
"""What writes a report to the file of an option, and its help."""


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each report that is written to a file."""
    path = click.Path(path_type=Path, dir_okay=False)
    for name, (_, text) in reversed(REPORTS.items()):
        option = "--" + name.replace("_", "-")
        command = click.option(option, name, type=path, metavar="FILE", help=text)(command)
    return command


@click.command(
    epilog=examples(
        "pexpolicy replay audit.jsonl",
        "pexpolicy replay audit.jsonl --against new.toml --only reject",
        "pexpolicy replay support.log --since yesterday --explain 1",
    )
)
@config_option
@click.argument("records", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--against",
    metavar="FILE|URL",
    help="Compare with the answers of this configuration, or of the server of this policy profile.",
)
@click.option("--user", help="User for HTTP Basic authentication at the server.")
@click.option(
    "--password-env", metavar="NAME", help="Environment variable that holds the password."
)
@cacert_option
@click.option(
    "--local-policy",
    "scripts",
    multiple=True,
    metavar="SCRIPT",
    help="A local policy script of the node, which follows each answer: FILE, or KIND=FILE. May be "
    "given for service, participant and media_location.",
)
@click.option(
    "--service-config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The service that Infinity itself has for the calls, as JSON, for --local-policy.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="WORD",
    help="Report the changes with this action, endpoint, plugin or field. May be given several "
    "times; all must fit.",
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
    help="Exit with 0 up to this part of changed calls, such as 0.5%.",
)
@click.option(
    "--processes",
    type=click.IntRange(0, 64),
    metavar="N",
    help="Number of processes; by default one for each processor where there is enough to do.",
)
@click.option(
    "--explain",
    type=click.IntRange(1),
    metavar="N",
    help="Show each step of the example of group N.",
)
@click.option(
    "--coverage",
    is_flag=True,
    help="Report which rooms, rules and subnets decided.",
)
@click.option("--json", "print_json", is_flag=True, help="Print JSON.")
@report_options
def replay(  # noqa: PLR0913 - the options of the command
    *,
    config: Path,
    records: tuple[Path, ...],
    against: str | None,
    user: str | None,
    password_env: str | None,
    cacert: Path | None,
    scripts: tuple[str, ...],
    service_config: Path | None,
    only: tuple[str, ...],
    ignore: tuple[str, ...],
    since: str | None,
    until: str | None,
    max_changed: float,
    processes: int | None,
    explain: int | None,
    utc: bool,
    network: bool,
    coverage: bool,
    print_json: bool,
    **reports: Path | None,
) -> None:
    """Show what a configuration would answer to recorded calls, and what changes.

    RECORDS are files of any of these forms, also compressed, and folders with such files: the audit
    log, with the files rotated away from it; the support log of Infinity, or a snapshot with it;
    the access log of a proxy; a URL a line; cases of pexpolicy test; the log of a policy router as
    CSV. Without RECORDS, the audit log of the configuration is read.

    Each call is asked at its own time, and compared with what was sent, or with another answer.
    Plugins cannot reach the network without --network.

    Exit code 0: the answers are equal, or no more than --max-changed differ. 1: more differ. 2: a
    record cannot be read, none can be replayed, or wrong usage. 75 and 78: as for serve.
    """
    times = period(since, until, utc=utc)
    bounds = {name: None if at is None else at.timestamp() for name, at in times.items()}
    selection = Selection(**bounds, ignore=frozenset(ignore), only=only)
    other = _other_side(against, user, password_env, cacert)
    if service_config is not None and not scripts:
        raise click.UsageError("--service-config is for --local-policy: name a script as well")
    job = Job(config, other, selection, network, coverage, scripts, service_config)
    with _errors_reported():
        with ReplayProgress(enabled=sys.stderr.isatty()) as progress:
            paths = list(records) or paths_of(config, ())
            result = run_replay(paths, job, processes=processes, progress=progress)
        if explain is not None:
            show_walks(result, explain, job)
        elif print_json:
            click.echo(json.dumps(as_json(result), indent=2))
        else:
            TextReport().show(result)
        for name, path in reports.items():
            if path is not None:
                path.write_text(REPORTS[name][0](result), encoding="utf-8")
    sys.exit(_exit_code(result, max_changed))


def gate(config: Path, records: Sequence[Path], max_changed: float) -> int:
    """Replay records as a check of a configuration; print the report and return the exit code."""
    with _errors_reported(), ReplayProgress(enabled=sys.stderr.isatty()) as progress:
        result = run_replay(records, Job(config), progress=progress)
    TextReport().show(result)
    return _exit_code(result, max_changed)


@contextmanager
def _errors_reported() -> Iterator[None]:
    """Print an error and exit."""
    try:
        yield
    except ConfigError as error:
        fail(error)
    except OSError as error:
        refuse(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (WorkerFailedError, ServerFailedError, LocalPolicyError) as error:
        refuse(str(error))


def _other_side(
    against: str | None, user: str | None, password_env: str | None, cacert: Path | None
) -> Path | ServerAddress | None:
    if against is None:
        return None
    if not against.startswith(("http://", "https://")):
        if not against.endswith(".toml") and not Path(against).exists():
            msg = f"there is no file {against}; the URL of a server begins with https:// or http://"
            raise click.BadParameter(msg, param_hint="--against")
        return Path(against)
    parts = urlsplit(against)
    if parts.username is not None:
        raise click.BadParameter("give the credentials with --user and --password-env")
    if parts.query or parts.fragment or "/policy/v1" in parts.path or not parts.hostname:
        msg = "write the URL of the policy profile: the part before /policy/v1"
        raise click.BadParameter(msg, param_hint="--against")
    ca_file = None if cacert is None else str(cacert)
    return ServerAddress(against.rstrip("/"), authorization(user, None, password_env), ca_file)


def _exit_code(result: ReplayResult, max_changed: float) -> int:
    if result.share > max_changed:
        return EX_DIFFERS
    records = result.tally.records
    if not records[Exactness.EXACT] + records[Exactness.PARTIAL]:
        click.secho(_nothing_replayed(records), fg="red", err=True)
        return EX_UNREADABLE
    return EX_UNREADABLE if records[Exactness.UNREADABLE] else 0


def _nothing_replayed(records: Mapping[Exactness, int]) -> str:
    """Return why no call was asked, and what to do."""
    if records[Exactness.NOT_REPLAYABLE]:
        return (
            "no call could be replayed, for the reasons in the report; the support log of Infinity "
            "has the aliases that [privacy] hashes"
        )
    if records[Exactness.UNREADABLE]:
        return "no call could be replayed: none of the lines is a record of a call"
    return "no call could be replayed: there is no record in these files and this time"
