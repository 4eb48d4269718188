"""The command ``pexpolicy audit`` and its subcommands."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from pexpolicy.audit import reader
from pexpolicy.audit.checkpoints import Verifier
from pexpolicy.audit.reader import CorruptLine, Record
from pexpolicy.audit.verify import Anchor, Verification
from pexpolicy.cli.audit import display
from pexpolicy.cli.audit.filters import Filters, moment
from pexpolicy.cli.audit.input import (
    configured,
    files_option,
    paths_of,
    personal_of,
    refuse,
    settings_of,
)
from pexpolicy.cli.audit.stats import Stats
from pexpolicy.cli.common import config_option
from pexpolicy.config.signing_key import InvalidKeyError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.outcome import ABSTAINED, BUSY, DECIDED, FAILED, INVALID, SKIPPED, TIMED_OUT

NOTHING_FOUND = 1
EVENTS = ("decision", "refused", "shadow", "checkpoint", "retracted", "end")
OUTCOMES = (DECIDED, ABSTAINED, FAILED, TIMED_OUT, INVALID, BUSY, SKIPPED)


@click.group()
def audit() -> None:
    """Look into the audit: follow it, find calls, count, and verify the chain."""


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one line each.")


@audit.command()
@config_option
@click.option("--file", "file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written from now on.")
@click.option(
    "--lines",
    "-n",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many lines at first.",
)
@_json_option
def tail(config: Path, file: Path | None, lines: int, *, follow: bool, as_json: bool) -> None:
    """Show the last lines, and with -f those to come, across rotations."""
    path = file or configured(settings_of(config))
    if not path.is_file():
        refuse(f"there is no file {path}")
    shown = _Printer(as_json=as_json)
    for raw in reader.last_lines(path, lines):
        shown.each(reader.read(raw))
    if follow:
        try:
            for raw in reader.follow(path):
                shown.each(reader.read(raw))
        except KeyboardInterrupt:
            return


@audit.command()
@files_option
@click.argument("decision_id", metavar="ID")
@_json_option
def show(config: Path, files: tuple[Path, ...], decision_id: str, *, as_json: bool) -> None:
    """Show all that was written of the call with the decision id ID, or one that begins so."""
    if not decision_id.strip():
        refuse("write the decision id, or how it begins")
    console = display.screen()
    found = 0
    for record in _records(paths_of(config, files)):
        if str(record.event.get("decision_id", "")).startswith(decision_id.strip().lower()):
            found += 1
            if as_json:
                _print_json(record)
            else:
                if found > 1:
                    console.print()
                display.show_whole(console, record.event)
    if not found:
        click.secho(f"no line has a decision id that begins with {decision_id}", err=True)
        sys.exit(NOTHING_FOUND)


@audit.command()
@files_option
@click.argument("text", required=False)
@click.option("--alias", help="Called, calling or registering alias, compared in its normal form.")
@click.option("--since", help="From this time on: 2026-11-26T09:00, or 15m, 2h, 3d ago.")
@click.option("--until", help="Before this time.")
@click.option("--endpoint", type=click.Choice(list(ENDPOINTS)))
@click.option("--decided-by", help="The plugin that decided, or default.")
@click.option("--action", type=click.Choice(["continue", "reject", "redirect"]))
@click.option("--outcome", type=click.Choice(OUTCOMES), help="What came of a step.")
@click.option("--plugin", help="A plugin that was asked.")
@click.option("--event", type=click.Choice(EVENTS), help="Kind of line.")
@click.option("--count", is_flag=True, help="Print only how many there are.")
@_json_option
def grep(
    config: Path,
    files: tuple[Path, ...],
    since: str | None,
    until: str | None,
    *,
    count: bool,
    as_json: bool,
    **wanted: str | None,
) -> None:
    """Find lines: all that is given must fit. TEXT stands anywhere in the line, in any case."""
    now = datetime.now(UTC)
    try:
        times = [None if text is None else moment(text, now) for text in (since, until)]
    except ValueError as error:
        refuse(str(error))
    personal = None if files or wanted["alias"] is None else personal_of(settings_of(config))
    criteria = Filters(since=times[0], until=times[1], personal=personal, **wanted)
    shown = _Printer(as_json=as_json, silent=count)
    for record in _records(paths_of(config, files)):
        if criteria.fit(record.event, record.raw.content):
            shown.one(record)
    if count:
        click.echo(shown.count)
    sys.exit(0 if shown.count else NOTHING_FOUND)


@audit.command()
@files_option
@click.option("--since", help="From this time on: 2026-11-26T09:00, or 15m, 2h, 3d ago.")
@click.option("--until", help="Before this time.")
@_json_option
def stats(
    config: Path, files: tuple[Path, ...], since: str | None, until: str | None, *, as_json: bool
) -> None:
    """Count calls, decisions, outcomes and refusals."""
    now = datetime.now(UTC)
    try:
        times = [None if text is None else moment(text, now) for text in (since, until)]
    except ValueError as error:
        refuse(str(error))
    criteria = Filters(since=times[0], until=times[1])
    counted = Stats()
    for found in reader.records(paths_of(config, files)):
        if isinstance(found, CorruptLine):
            counted.damaged += 1
        elif criteria.fit(found.event, found.raw.content):
            counted.add(found.event)
    if as_json:
        click.echo(msgspec.json.encode(counted.as_json()).decode())
    else:
        display.show_stats(display.screen(), counted)


@audit.command()
@files_option
@click.option(
    "--anchor",
    "anchors",
    multiple=True,
    metavar="SEQ:HASH",
    help="A line that must be there, as it was noted elsewhere. May be given several times.",
)
@click.option(
    "--public-key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Ed25519 key in PEM: each chain must have checkpoints that were signed with its "
    "private one.",
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
    found = Verification(verifier, required)
    faults = 0
    for fault in found.verify(reader.raw_lines(paths_of(config, files))):
        faults += 1
        if as_json:
            click.echo(msgspec.json.encode(fault._asdict()).decode())
        else:
            click.secho(str(fault), fg="red")
    if not as_json:
        console = display.screen()
        display.show_chains(console, found.chains.values(), signed=verifier is not None)
        chains = f"{len(found.chains)} chain{'s' * (len(found.chains) != 1)}"
        lines = f"{found.lines:,} line{'s' * (found.lines != 1)}"
        click.secho(f"{lines}, {chains}, faults: {faults}", fg="red" if faults else "green")
    sys.exit(1 if faults else 0)


class _Printer:
    """Prints lines, and damage on standard error."""

    def __init__(self, *, as_json: bool, silent: bool = False) -> None:
        self._as_json = as_json
        self._silent = silent
        self._console = display.screen()
        self.count = 0

    def each(self, found: Iterable[Record | CorruptLine]) -> None:
        for one in found:
            if isinstance(one, CorruptLine):
                click.secho(str(one), fg="red", err=True)
            else:
                self.one(one)

    def one(self, record: Record) -> None:
        self.count += 1
        if self._silent:
            return
        if self._as_json:
            _print_json(record)
        else:
            self._console.print(display.short(record.event))


def _print_json(record: Record) -> None:
    click.echo(record.raw.content.decode("utf-8", "replace"))


def _records(paths: Iterable[Path]) -> Iterator[Record]:
    """The records; damage is named on standard error."""
    for found in reader.records(paths):
        if isinstance(found, CorruptLine):
            click.secho(str(found), fg="red", err=True)
        else:
            yield found
