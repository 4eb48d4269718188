"""Command ``pexpolicy audit`` and its subcommands."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import wraps
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
from rich.text import Text

from pexpolicy.audit import reader
from pexpolicy.audit.console import parts
from pexpolicy.audit.database import NO_DRIVER, Database, DatabaseUnavailable, Shipper
from pexpolicy.audit.reader import Fault, RawLine, Record
from pexpolicy.audit.redaction import keyed_hash
from pexpolicy.audit.verify import Anchor, Verification
from pexpolicy.cli.common import (
    EX_CONFIG,
    config_option,
    count,
    examples,
    fail,
    flag,
    format_time,
    json_option,
    key_value,
    load_or_exit,
    print_value,
    refuse,
    repeatable,
)
from pexpolicy.config import secrets
from pexpolicy.config.loader import load
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.explain.request_forms import parse_moment
from pexpolicy.models.alias import Alias
from pexpolicy.testing.report import BAD, GOOD, Line, console, print_parts
from pexpolicy.text import escape_controls, printable, suggest

Event = Mapping[str, Any]
"""A decoded line; anything may be in one that another program wrote, and it must end no search."""
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
NOTHING_FOUND = 1
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
STEP_FIELDS = ("plugin", "outcome")
EXAMPLES = examples(
    "pexpolicy audit tail -f",
    "pexpolicy audit tail -n 100",
    "pexpolicy audit grep --alias meet07 --since yesterday",
    "pexpolicy audit grep --where action=reject --where decided_by=rules",
    "pexpolicy audit grep --where plugin=crm --where outcome=timed_out",
    "pexpolicy audit show 019f3c7e",
    "pexpolicy audit verify",
    "pexpolicy audit verify --public-key audit-public.pem --anchor 4711:6f1c...",
    "pexpolicy audit verify --from-database",
    "pexpolicy audit ship --config /etc/pexpolicy/config.toml",
    "pexpolicy audit purge --before 2026-01-01",
)


@click.group(epilog=EXAMPLES)
def audit() -> None:
    """Read the audit file: follow it, find and verify lines."""


# ---- files and times


class Source(NamedTuple):
    """The lines to read: of files, those of the configuration by default, or of the database."""

    config: Path
    files: tuple[Path, ...]
    from_database: bool

    @property
    def is_merged(self) -> bool:
        """Whether the lines may be of several servers."""
        return self.from_database or len(self.files) > 1

    def records(self, where: str, *arguments: object) -> Iterator[Record]:
        """Yield the lines of a condition in the database, or all of the files, merged by time."""
        if self.from_database:
            with opened(self.config) as (database, _):
                rest = f"WHERE {where} ORDER BY time, boot_id, seq"
                yield from records_of(reader.records(database.lines(rest, *arguments)))
        elif self.is_merged:
            yield from records_of(reader.merged(self.files))
        else:
            lines = reader.raw_lines(paths_of(self.config, self.files))
            yield from records_of(reader.records(lines))


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select the lines, which the command takes as one ``Source``."""

    @config_option
    @repeatable(
        "--file",
        "files",
        type=FILE,
        help="Read this file instead of the configured one and those rotated away from it. May be "
        "given several times; .gz is read too.",
    )
    @flag(
        "--from-database",
        help="Read the lines of all servers in the database of [audit.ship] instead.",
    )
    @wraps(command)
    def run(config: Path, files: tuple[Path, ...], *, from_database: bool, **options: Any) -> None:
        command(Source(config, files, from_database), **options)

    return run


def time(text: str) -> datetime:
    """Return a time as people write it; raise ``BadParameter``."""
    try:
        return parse_moment(text, datetime.now(UTC))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


since_option = click.option(
    "--since",
    type=time,
    help="From this time: 2026-11-26T09:00, 09:00, today, yesterday, or 15m, 2h, 3d ago.",
)


def paths_of(config: Path, files: Sequence[Path]) -> list[Path]:
    """Return the files to read, those with the oldest lines first."""
    if files:
        return list(files)
    settings = settings_of(config)
    path = configured(settings)
    paths = reader.file_and_rotated(path)
    if settings.audit.spool is not None:
        # Lines in the spool are newer than those in the file.
        paths += sorted(settings.resolve(settings.audit.spool).glob("*.spool"))
    if not paths:
        refuse(f"there is no file {path}")
    return paths


def settings_of(config: Path) -> Settings:
    """Return the settings of a configuration file, or print every error and exit with 78."""
    return load_or_exit(config, "a file can be read without it: --file audit.jsonl")


def configured(settings: Settings) -> Path:
    """Return the configured audit file, or exit with 2."""
    if settings.audit.path is None:
        refuse(
            "the audit goes to standard output: name the file that has it, "
            "or write the line of the call in place of its ID"
        )
    return settings.resolve(settings.audit.path)


@contextmanager
def opened(config: Path) -> Iterator[tuple[Database, Settings]]:
    """Yield the database of a configuration, with its settings; exit with 78 without one, with 2
    if it fails. Errors in other tables than ``[audit]`` do not matter.
    """
    try:
        settings = load(config)
    except ConfigError as error:
        if error.salvaged is None or "audit" in error.salvaged.wrong:
            fail(error)
        settings = error.salvaged
    if settings.audit.ship is None:
        refuse(f"{config}: [audit.ship] is missing: it names the database, as url", EX_CONFIG)
    if find_spec("asyncpg") is None:
        refuse(NO_DRIVER, EX_CONFIG)
    try:
        with Database(settings) as database:
            yield database, settings
    except DatabaseUnavailable as error:
        refuse(str(error))


def last_of_database(config: Path, number: int) -> list[RawLine]:
    """Return the last lines by time."""
    with opened(config) as (database, _):
        order = "ORDER BY time DESC, boot_id DESC, seq DESC LIMIT $1"
        return [*database.lines(order, number)][::-1]


def records_of(found: Iterable[Record | Fault]) -> Iterator[Record]:
    """Yield the records; print damage on standard error."""
    for item in found:
        if isinstance(item, Fault):
            click.secho(str(item), fg="red", err=True)
        else:
            yield item


# ---- commands


@audit.command(epilog=EXAMPLES)
@source_options
@flag("--follow", "-f", help="Then print new lines as they are written.")
@click.option(
    "--lines",
    "-n",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Number of lines to print first.",
)
def tail(source: Source, lines: int, *, follow: bool) -> None:
    """Print the last lines, and with -f new ones, across rotations."""
    show_line, files = printer(source), source.files
    found: Iterable[Record | Fault]
    if source.is_merged and follow:
        refuse("-f follows one file: leave it out, or the others")
    elif source.from_database:
        found = reader.records(last_of_database(source.config, lines))
    elif source.is_merged:
        found = deque(reader.merged(files), lines)
    else:
        path = files[0] if files else configured(settings_of(source.config))
        if not path.is_file():
            refuse(f"there is no file {path}")
        new = reader.follow(path) if follow else ()
        found = reader.records(chain(reader.last_lines(path, lines), new))
    with suppress(KeyboardInterrupt):
        for record in records_of(found):
            show_line(record)


@audit.command(epilog=EXAMPLES)
@source_options
@click.argument("text", required=False)
@click.option(
    "--alias",
    help="Called, calling or registering alias in any spelling; a name without a host matches the "
    "part before the @.",
)
@since_option
@click.option("--until", type=time, help="Before this time.")
@repeatable(
    "--where",
    type=key_value,
    metavar="FIELD=VALUE",
    help="A field of the line such as endpoint, decided_by, action, event or peer; plugin or "
    "outcome of a step; or a parameter of the request, such as node_ip. May be given several "
    "times.",
)
@json_option
def grep(
    source: Source,
    text: str | None,
    alias: str | None,
    since: datetime | None,
    until: datetime | None,
    where: tuple[tuple[str, str], ...],
    *,
    as_json: bool,
) -> None:
    """Find lines that match all filters. TEXT may be anywhere in the line; case does not matter."""
    since, until = since or FIRST, until or LAST
    if since >= until:
        raise click.UsageError("--since is not before --until")
    is_meant = _alias_filter(source, alias)
    show_line = printer(source, as_json=as_json)
    found, searched, first, last, fields = 0, 0, None, None, set[str]()
    for record in source.records("time >= $1 AND time < $2", since, until):
        event, last = record.event, record.event.get("timestamp")
        searched, first, compared = searched + 1, first or last, _compared(event)
        fields.update(*compared)
        if (
            since <= (reader.time_of(event) or FIRST) < until
            and any(all(_has(one, *pair) for pair in where) for one in compared)
            and (not text or text.casefold() in record.raw.content.decode().casefold())
            and (alias is None or any(map(is_meant, _aliases(event))))
        ):
            found += 1
            show_line(record)
    if not found:
        for field, _ in where if searched else ():
            if field not in fields:
                hint = suggest(field, sorted(fields))
                refuse(f"no line has a field {field!r}{hint}", NOTHING_FOUND)
        times = " to ".join(format_time(at) for at in (first, last) if at)
        refuse(f"no line matches ({searched:,} searched{', ' * bool(times)}{times})", NOTHING_FOUND)


@audit.command(epilog=EXAMPLES)
@source_options
@click.argument("decision_id", metavar="ID")
@json_option
def show(source: Source, decision_id: str, *, as_json: bool) -> None:
    """Print the whole lines of the decision with this ID, or with one that begins so."""
    beginning = decision_id.strip().lower()
    if not re.fullmatch(r"[0-9a-f-]{4,36}", beginning):
        refuse(f"{decision_id!r} is not a decision ID, or its first 4 digits or more")
    lines = source.records("strpos(line, $1) > 0", beginning)
    found = [one for one in lines if str(one.event.get("decision_id")).startswith(beginning)]
    show_line = printer(source, as_json=as_json)
    for record in found:
        show_line(record)
        if not as_json:
            print_value(record.event)
    if not found:
        refuse(f"no line has a decision ID that begins with {beginning}", NOTHING_FOUND)


@audit.command(epilog=EXAMPLES)
@source_options
@repeatable(
    "--anchor",
    "anchors",
    metavar="SEQ:HASH",
    help="A line that must exist, as noted elsewhere. May be given several times.",
)
@click.option(
    "--public-key",
    type=FILE,
    help="Ed25519 key in PEM: each chain must have checkpoints signed with its private key.",
)
@json_option
def verify(
    source: Source, anchors: tuple[str, ...], public_key: Path | None, *, as_json: bool
) -> None:
    """Verify the chain: name each line that is missing, changed, moved or added; in the database
    also chains that are shorter than they were, or silent.
    """
    try:
        required = {Anchor.parse(text) for text in anchors}
        verifier = None if public_key is None else secrets.public_key(public_key.read_bytes())
    except secrets.InvalidKeyError as error:
        how = "openssl pkey -in sign.pem -pubout -out public.pem"
        refuse(f"{public_key} {error}; make it from the signing key: {how}")
    except ValueError as error:
        refuse(str(error))
    verification = Verification(verifier, required)
    faults = 0
    if source.from_database:
        found = faults_in_database(source.config, verification)
    else:
        found = verification.verify(reader.raw_lines(paths_of(source.config, source.files)))
    for fault in found:
        faults += 1
        shown = msgspec.json.encode(fault._asdict()).decode() if as_json else str(fault)
        click.secho(shown, fg=None if as_json else "red")
    if as_json:
        click.echo(msgspec.json.encode(verification.as_json(faults)))
    else:
        print_parts(_report(verification, faults))
    sys.exit(1 if faults else 0)


def faults_in_database(config: Path, verification: Verification) -> Iterator[Fault]:
    """Verify the lines of the database, and yield each fault."""
    with opened(config) as (database, _):
        # Before the lines: those that arrive meanwhile make no chain look shorter.
        verification.heads = database.chains()
        yield from verification.verify(database.lines("ORDER BY boot_id, seq"))


@audit.command(epilog=EXAMPLES)
@config_option
def ship(config: Path) -> None:
    """Copy the lines of the audit to the database of [audit.ship], until the process is ended.

    It is a process of its own, next to the server: neither waits for the other. Lines that wait
    for the database are on the disk, and no line is stored twice.
    """
    # Nothing is lost whenever it ends. As the first process of a container it needs a handler.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with suppress(KeyboardInterrupt), opened(config) as (database, settings):
        table = settings.audit
        assert table.ship is not None
        assert table.path is not None
        path, instance = settings.resolve(table.path), settings.instance
        click.echo(f"copying {path} to the database of [audit.ship] as {instance}", err=True)
        shipper = Shipper(database, path, instance, table.ship.keep_days)
        shipper.run(lambda text: click.echo(f"audit ship: {text}", err=True))


@audit.command(epilog=EXAMPLES)
@config_option
@click.option("--before", required=True, type=time, help="Keep lines from this time on.")
def purge(config: Path, before: datetime) -> None:
    """Remove old lines from the database of [audit.ship].

    The number and hash of the last line that is removed of each chain stay, so that the rest can
    be verified.
    """
    with opened(config) as (database, _):
        removed = 0
        while number := database.purge(before):
            removed += number
    click.echo(f"removed {count(removed, 'line')} from before {format_time(before)}")


def _alias_filter(source: Source, alias: str | None) -> Callable[[str], bool]:
    """Return what tells whether a text of a line is the alias, or its hash if they are hashed."""
    meant = Alias(alias or "")
    required = {meant, alias}
    if alias is not None and not source.files and (key := settings_of(source.config).privacy_key):
        required.add(keyed_hash(key.get_secret_value().encode())(meant))

    def is_meant(text: str) -> bool:
        found = Alias(text)
        return not required.isdisjoint((text, found)) or (meant.bare and found.user == meant.user)

    return is_meant


def _compared(event: Event) -> list[Event]:
    """Return what ``--where`` looks at: the line with its parameters, once with each step."""
    line, steps = {**_request(event), **event}, event.get("steps")
    found: list[Event] = [
        {**line, **{field: step.get(field) for field in STEP_FIELDS}}
        for step in (steps if isinstance(steps, list) else ())
        if isinstance(step, dict)
    ]
    return found or [line]


def _has(event: Event, field: str, value: str) -> bool:
    """Return whether a field, or one of its values, is as written."""
    found = event.get(field, ())
    return value in (found if isinstance(found, list | tuple) else (found, json.dumps(found)))


def _request(event: Event) -> Mapping[str, Any]:
    found = event.get("request")
    return found if isinstance(found, dict) else {}


def _aliases(event: Event) -> Iterator[str]:
    for name, value in _request(event).items():
        if name.endswith("alias"):
            values = value if isinstance(value, list) else [value]
            yield from (item for item in values if isinstance(item, str))


# ---- lines on a terminal


def printer(source: Source, *, as_json: bool = False) -> Callable[[Record], None]:
    """Return what prints a line: as it is, or as on the terminal of a server, with the date and the
    decision id, and the instance where there may be several.
    """
    out = console()

    def show_line(record: Record) -> None:
        event = record.event
        if as_json:
            click.echo(escape_controls(record.raw.content.decode("utf-8", "replace")))
            return
        texts = [("dim", format_time(event.get("timestamp"))), *parts(event)]
        if source.is_merged:
            texts.insert(1, ("cyan", printable(event.get("instance") or "?")))
        if decision_id := printable(event.get("decision_id") or ""):
            texts.append(("dim", f"| {decision_id}"))
        out.print(Text(" ").join(Text(text, style) for style, text in texts))

    return show_line


def _report(verification: Verification, faults: int) -> Iterator[Line]:
    """Yield a line for each chain, with the anchor of its last line, and the number of faults."""
    for one in verification.chains.values():
        end = f"{one.last}:{one.head.decode()}"
        if not one.lines:
            yield Line(f"chain {one.boot_id}: purged up to {end}", is_whole=True)
            continue
        named = f" of {one.instance}" * bool(one.instance)
        lines = count(one.lines, "line")
        texts = [f"chain {one.boot_id}{named}: {lines} from {one.first} to {end}"]
        if not one.has_ended:
            texts.append("no end: its server is running, or was killed")
        if (verification.anchors or verification.heads) and not one.is_anchored:
            texts.append("it has no anchor")
        if one.first > 1:
            texts.append(f"starts at line {one.first}, as files were rotated away or removed")
        if one.lost:
            texts.append(f"{count(one.lost, 'line')} lost, according to the server")
        if verification.verifier is not None:
            texts.append(f"{count(one.unsigned, 'line')} at its end without a signature")
        yield Line(", ".join(texts), is_whole=True)
    counts = f"{count(verification.lines, 'line')}, {count(len(verification.chains), 'chain')}"
    if verification.verifier is not None:
        unsigned = sum(one.unsigned for one in verification.chains.values())
        counts += f", without a signature: {unsigned}"
    yield Line(f"{counts}, faults: {faults}", BAD if faults else GOOD)
