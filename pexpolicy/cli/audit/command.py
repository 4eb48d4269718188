"""The command ``pexpolicy audit`` and its subcommands."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from pexpolicy.audit import reader
from pexpolicy.audit.hash_chain import Verifier
from pexpolicy.audit.reader import CorruptLine, Record
from pexpolicy.audit.records import escape_controls
from pexpolicy.audit.verify import Anchor, Verification
from pexpolicy.cli.audit import display
from pexpolicy.cli.audit.filters import Filters
from pexpolicy.cli.audit.input import (
    AuditGroup,
    configured,
    files_option,
    hash_of,
    paths_of,
    period,
    refuse,
    settings_of,
    time_options,
    utc_option,
    with_progress,
)
from pexpolicy.cli.audit.stats import Stats
from pexpolicy.cli.common import config_option
from pexpolicy.cli.examples import examples
from pexpolicy.config.signing_key import InvalidKeyError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.outcome import (
    ABSTAINED,
    ADJUSTED,
    BUSY,
    DECIDED,
    FAILED,
    INVALID,
    SKIPPED,
    TIMED_OUT,
)

NOTHING_FOUND = 1
EVENTS = ("decision", "refused", "shadow", "checkpoint", "retracted", "end")
OUTCOMES = (DECIDED, ABSTAINED, ADJUSTED, FAILED, TIMED_OUT, INVALID, BUSY, SKIPPED)


@click.group(
    cls=AuditGroup,
    epilog=examples("pexpolicy audit tail -f", "pexpolicy audit COMMAND --help"),
)
def audit() -> None:
    """Read the audit file: follow it, find calls, count, and verify the chain."""


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one line each.")


@audit.command(epilog=examples("pexpolicy audit tail -f", "pexpolicy audit tail -n 100 --json"))
@config_option
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Read this file instead of the configured one.",
)
@click.option("--follow", "-f", is_flag=True, help="Then print new lines as they are written.")
@click.option(
    "--lines",
    "-n",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Number of lines to print first.",
)
@utc_option
@_json_option
def tail(
    config: Path, file: Path | None, lines: int, *, follow: bool, utc: bool, as_json: bool
) -> None:
    """Print the last lines, and with -f new ones, across rotations."""
    path = file or configured(settings_of(config))
    if not path.is_file():
        refuse(f"there is no file {path}")
    printer = _Printer(as_json=as_json, utc=utc)
    paths = [path] if file is not None else reader.file_and_rotated(path)
    for raw in reader.last_lines_of(paths, lines):
        printer.print_all(reader.read(raw))
    if follow:
        try:
            for raw in reader.follow(path):
                printer.print_all(reader.read(raw))
        except KeyboardInterrupt:
            return


@audit.command(
    epilog=examples("pexpolicy audit show 019f3c7e", "pexpolicy audit show 019f3c7e --utc --json")
)
@files_option
@click.argument("decision_id", metavar="ID")
@utc_option
@_json_option
def show(
    config: Path, files: tuple[Path, ...], decision_id: str, *, utc: bool, as_json: bool
) -> None:
    """Print all lines of the call with the decision id ID, or with one that starts with it."""
    if not decision_id.strip():
        refuse("write the decision id, or its beginning")
    console = display.screen()
    count = 0
    for record in _records(paths_of(config, files)):
        if str(record.event.get("decision_id", "")).startswith(decision_id.strip().lower()):
            count += 1
            if as_json:
                _print_json(record)
            else:
                if count > 1:
                    console.print()
                display.show_whole(console, record.event, utc=utc)
    if not count:
        click.secho(f"no line has a decision id that begins with {decision_id}", err=True)
        sys.exit(NOTHING_FOUND)


@audit.command(
    epilog=examples(
        "pexpolicy audit grep --alias meet07 --since yesterday",
        "pexpolicy audit grep --action reject --decided-by rules",
        "pexpolicy audit grep --plugin crm --outcome timed_out --count",
    )
)
@files_option
@click.argument("text", required=False)
@click.option(
    "--alias",
    help="Called, calling or registering alias in any spelling; a name without a host matches the "
    "part before the @.",
)
@time_options
@click.option("--endpoint", type=click.Choice(list(ENDPOINTS)), help="Request type.")
@click.option("--decided-by", help="The plugin that decided, or default.")
@click.option(
    "--action", type=click.Choice(["continue", "reject", "redirect"]), help="Action sent."
)
@click.option("--outcome", type=click.Choice(OUTCOMES), help="The outcome of a step.")
@click.option("--plugin", help="A plugin that was asked.")
@click.option("--node", help="The node_ip of the request: the Conferencing Node.")
@click.option("--peer", help="The address that the request came from.")
@click.option("--event", type=click.Choice(EVENTS), help="Kind of line.")
@click.option("--count", is_flag=True, help="Print only the number of lines.")
@_json_option
def grep(
    config: Path,
    files: tuple[Path, ...],
    since: str | None,
    until: str | None,
    *,
    utc: bool,
    count: bool,
    as_json: bool,
    **criteria: str | None,
) -> None:
    """Find lines that match all filters. TEXT may be anywhere in the line; case does not matter."""
    times = period(since, until, utc=utc)
    hashing = None if files or criteria["alias"] is None else hash_of(settings_of(config))
    filters = Filters(hash_personal=hashing, **times, **criteria)  # type: ignore[arg-type]
    printer = _Printer(as_json=as_json, utc=utc, silent=count)
    searched, first, last = 0, None, None
    for record in _records(paths_of(config, files)):
        last = record.event.get("timestamp")
        first = first or last
        searched += 1
        if filters.match(record.event, record.raw.content):
            printer.print(record)
    if count:
        click.echo(printer.count)
    if not printer.count:
        between = " to ".join(display.format_time(at, utc=utc) for at in (first, last) if at)
        click.echo(
            f"no line matches ({searched:,} searched{', ' * bool(between)}{between})", err=True
        )
        sys.exit(NOTHING_FOUND)


@audit.command(
    epilog=examples(
        "pexpolicy audit stats", "pexpolicy audit stats --since 2026-11-01 --until 2026-12-01"
    )
)
@files_option
@time_options
@_json_option
def stats(
    config: Path,
    files: tuple[Path, ...],
    since: str | None,
    until: str | None,
    *,
    utc: bool,
    as_json: bool,
) -> None:
    """Count calls, decisions, outcomes and refusals."""
    filters = Filters(**period(since, until, utc=utc))  # type: ignore[arg-type]
    figures = Stats()
    for found in reader.records(paths_of(config, files)):
        if isinstance(found, CorruptLine):
            figures.damaged += 1
        elif filters.match(found.event, found.raw.content):
            figures.add(found.event)
    if as_json:
        click.echo(msgspec.json.encode(figures.as_json()).decode())
    else:
        display.show_stats(display.screen(), figures, utc=utc)


@audit.command(
    epilog=examples(
        "pexpolicy audit verify",
        "pexpolicy audit verify --public-key audit-public.pem --anchor 4711:6f1c...",
    )
)
@files_option
@click.option(
    "--anchor",
    "anchors",
    multiple=True,
    metavar="SEQ:HASH",
    help="A line that must exist, as noted elsewhere. May be given several times.",
)
@click.option(
    "--public-key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Ed25519 key in PEM: each chain must have checkpoints signed with its private key.",
)
@_json_option
def verify(
    config: Path,
    files: tuple[Path, ...],
    anchors: tuple[str, ...],
    public_key: Path | None,
    *,
    as_json: bool,
) -> None:
    """Verify the chain: name each line that is missing, changed, moved or added."""
    try:
        required = {Anchor.parse(text) for text in anchors}
        verifier = Verifier(public_key.read_bytes()) if public_key is not None else None
    except InvalidKeyError as error:
        refuse(f"{public_key} {error}")
    except OSError as error:
        refuse(f"{public_key} cannot be read: {error.strerror}")
    except ValueError as error:
        refuse(str(error))
    verification = Verification(verifier, required)
    lines = with_progress(reader.raw_lines(paths_of(config, files)), enabled=sys.stderr.isatty())
    faults = 0
    for fault in verification.verify(lines):
        faults += 1
        if as_json:
            _echo_json(fault._asdict())
        else:
            click.secho(str(fault), fg="red")
    if as_json:
        _echo_json(verification.as_json(faults))
    else:
        display.show_verification(display.screen(), verification, faults)
    sys.exit(1 if faults else 0)


class _Printer:
    """Prints lines, and damage on standard error."""

    def __init__(self, *, as_json: bool, utc: bool, silent: bool = False) -> None:
        self._as_json = as_json
        self._utc = utc
        self._silent = silent
        self._console = display.screen()
        self.count = 0

    def print_all(self, found: Iterable[Record | CorruptLine]) -> None:
        for record in _without_damage(found):
            self.print(record)

    def print(self, record: Record) -> None:
        self.count += 1
        if self._silent:
            return
        if self._as_json:
            _print_json(record)
        else:
            display.print_short(self._console, record.event, utc=self._utc)


def _print_json(record: Record) -> None:
    click.echo(escape_controls(record.raw.content))


def _echo_json(value: Any) -> None:
    click.echo(msgspec.json.encode(value).decode())


def _records(paths: Iterable[Path]) -> Iterator[Record]:
    return _without_damage(reader.records(paths))


def _without_damage(found: Iterable[Record | CorruptLine]) -> Iterator[Record]:
    """Yield the records; print damage on standard error."""
    for item in found:
        if isinstance(item, CorruptLine):
            click.secho(str(item), fg="red", err=True)
        else:
            yield item
