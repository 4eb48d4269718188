"""Command ``pexpolicy audit`` and its subcommands."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from pexpolicy.audit import reader
from pexpolicy.audit.hash_chain import Verifier
from pexpolicy.audit.reader import CorruptLine, RawLine, Record
from pexpolicy.audit.records import escape_controls
from pexpolicy.audit.redaction import keyed_hash
from pexpolicy.audit.verify import Anchor, Verification
from pexpolicy.cli import audit_display as display
from pexpolicy.cli.common import (
    config_option,
    examples,
    fail,
    json_option,
    key_value_pairs,
    refuse,
)
from pexpolicy.cli.text import screen
from pexpolicy.config.loader import load
from pexpolicy.config.secrets import InvalidKeyError
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.alias import Alias
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
from pexpolicy.text import printable

Command = TypeVar("Command", bound=Callable[..., Any])
NOTHING_FOUND = 1
PROGRESS_LINES = 4096
"""Lines between two updates of the progress."""
STEP_FIELDS = ("plugin", "outcome")
KNOWN_VALUES: Mapping[str, Sequence[str]] = {
    "action": ("continue", "reject", "redirect"),
    "endpoint": tuple(ENDPOINTS),
    "event": ("decision", "refused", "shadow", "checkpoint", "retracted", "end"),
    "outcome": (DECIDED, ABSTAINED, ADJUSTED, FAILED, TIMED_OUT, INVALID, BUSY, SKIPPED),
}
"""All values of some fields; a search for another one could find nothing."""
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DAYS = {"today": 0, "yesterday": 1}


class AuditGroup(click.Group):
    """A group of commands that exit with 2 if a file cannot be read."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and print an error of a file without a traceback."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.filename is None or isinstance(error, BrokenPipeError):
                raise
            refuse(f"{printable(error.filename)} cannot be read: {error.strerror}")


@click.group(
    cls=AuditGroup,
    epilog=examples("pexpolicy audit tail -f", "pexpolicy audit COMMAND --help"),
)
def audit() -> None:
    """Read the audit file: follow it, find calls, count, and verify the chain."""


# ---- files and times


def files_option(command: Command) -> Command:
    """Add the options that select the files to read."""
    file = click.option(
        "--file",
        "files",
        multiple=True,
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="Read this file instead of the configured one and those rotated away from it. May be "
        "given several times; .gz is read too.",
    )
    return config_option(file(command))


def time_options(command: Command) -> Command:
    """Add the options that select a period."""
    since = click.option(
        "--since",
        help="From this time: 2026-11-26T09:00, 09:00, today, yesterday, or 15m, 2h, 3d ago.",
    )
    until = click.option("--until", help="Before this time.")
    return since(until(command))


def period(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Return ``since`` and ``until`` as times, or exit with 2."""
    now = datetime.now(UTC)
    try:
        begin, end = (None if text is None else parse_time(text, now) for text in (since, until))
    except ValueError as error:
        refuse(str(error))
    if begin is not None and end is not None and begin >= end:
        refuse(
            f"--since {since} is not before --until {until}, so no line is in between: "
            "write the earlier time after --since"
        )
    return begin, end


def parse_time(text: str, now: datetime, zone: tzinfo | None = None) -> datetime:
    """Parse ``2026-11-26T09:00``, ``09:00`` (today), ``today``, ``yesterday``, or ``2h`` ago.

    Times without a zone are of ``zone``, or local. Raises ``ValueError``.
    """
    try:
        if (span := _SPAN.fullmatch(text)) is not None:
            return now - timedelta(**{_UNITS[span[2]]: float(span[1])})
        today = now.astimezone(zone).date()
        if text in _DAYS:
            parsed = datetime.combine(today - timedelta(days=_DAYS[text]), time())
        elif re.fullmatch(r"\d\d:\d\d(:\d\d)?", text):
            parsed = datetime.combine(today, time.fromisoformat(text))
        else:
            parsed = datetime.fromisoformat(text)
        if zone is not None and parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=zone)
        return parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        msg = (
            f"{text!r} is not a time: write 2026-11-26T09:00, 09:00, today, yesterday, or 15m, 2h "
            "or 3d for that long ago"
        )
        raise ValueError(msg) from None


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
    try:
        return load(config)
    except ConfigError as error:
        # Reading the audit file does not need the passwords of the server.
        if error.salvaged is None or error.salvaged.audit.path is None:
            fail(error, "a file can be read without it: --file audit.jsonl")
        return error.salvaged


def configured(settings: Settings) -> Path:
    """Return the configured audit file, or exit with 2."""
    if settings.audit.path is None:
        refuse(
            "the audit goes to standard output: name the file that has it, "
            "or write the line of the call in place of its ID"
        )
    return settings.resolve(settings.audit.path)


def _records(found: Iterable[Record | CorruptLine]) -> Iterator[Record]:
    """Yield the records; print damage on standard error."""
    for item in found:
        if isinstance(item, CorruptLine):
            click.secho(str(item), fg="red", err=True)
        else:
            yield item


# ---- commands


@audit.command(epilog=examples("pexpolicy audit tail -f", "pexpolicy audit tail -n 100 --json"))
@files_option
@click.option("--follow", "-f", is_flag=True, help="Then print new lines as they are written.")
@click.option(
    "--lines",
    "-n",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Number of lines to print first.",
)
@json_option
def tail(config: Path, files: tuple[Path, ...], lines: int, *, follow: bool, as_json: bool) -> None:
    """Print the last lines, and with -f new ones, across rotations."""
    path = files[-1] if files else configured(settings_of(config))
    if not path.is_file():
        refuse(f"there is no file {path}")
    printed = _printer(as_json=as_json)
    paths = files or reader.file_and_rotated(path)
    followed = reader.follow(path) if follow else ()
    with suppress(KeyboardInterrupt):
        for raw in chain(reader.last_lines_of(paths, lines), followed):
            for record in _records(reader.read(raw)):
                printed(record)


def _printer(*, as_json: bool) -> Callable[[Record], None]:
    """Return what prints one line for a record."""
    if as_json:
        return lambda record: click.echo(escape_controls(record.raw.content))
    console = screen()
    return lambda record: display.print_short(console, record.event)


@audit.command(
    epilog=examples("pexpolicy audit show 019f3c7e", "pexpolicy audit show 019f3c7e --json")
)
@files_option
@click.argument("decision_id", metavar="ID")
@json_option
def show(config: Path, files: tuple[Path, ...], decision_id: str, *, as_json: bool) -> None:
    """Print all lines of the call with the decision id ID, or with one that starts with it."""
    beginning = decision_id.strip().lower()
    if not beginning:
        refuse("write the decision id, or its beginning")
    console, count = screen(), 0
    for record in _records(reader.records(paths_of(config, files))):
        if not str(record.event.get("decision_id", "")).startswith(beginning):
            continue
        if as_json:
            click.echo(escape_controls(record.raw.content))
        else:
            if count:
                console.print()
            display.show_whole(console, record.event)
        count += 1
    if not count:
        click.secho(f"no line has a decision id that begins with {decision_id}", err=True)
        sys.exit(NOTHING_FOUND)


@audit.command(
    epilog=examples(
        "pexpolicy audit grep --alias meet07 --since yesterday",
        "pexpolicy audit grep --where action=reject --where decided_by=rules",
        "pexpolicy audit grep --where plugin=crm --where outcome=timed_out",
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
@click.option(
    "--where",
    "pairs",
    multiple=True,
    metavar="FIELD=VALUE",
    help="A field of the line such as endpoint, decided_by, action, event or peer; plugin or "
    "outcome of a step; or a parameter of the request, such as node_ip. May be given several "
    "times.",
)
@json_option
def grep(  # noqa: PLR0913 - the options of the command
    config: Path,
    files: tuple[Path, ...],
    text: str | None,
    alias: str | None,
    since: str | None,
    until: str | None,
    pairs: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Find lines that match all filters. TEXT may be anywhere in the line; case does not matter."""
    where = key_value_pairs(pairs, "--where", "action=reject")
    for field, value in where:
        if value not in KNOWN_VALUES.get(field, (value,)):
            known = ", ".join(KNOWN_VALUES[field])
            msg = f"{value!r} is not a value of {field}: {known}"
            raise click.BadParameter(msg, param_hint="--where")
    hashing = None
    if alias is not None and not files:
        key = settings_of(config).privacy_key
        hashing = None if key is None else keyed_hash(key.get_secret_value().encode())
    filters = Filters(
        alias=alias, where=where, text=text, hash_personal=hashing, period=period(since, until)
    )
    printed = _printer(as_json=as_json)
    found, searched, first, last = 0, 0, None, None
    for record in _records(reader.records(paths_of(config, files))):
        last = record.event.get("timestamp")
        first = first or last
        searched += 1
        if filters.match(record.event, record.raw.content):
            found += 1
            printed(record)
    if not found:
        between = " to ".join(display.format_time(at) for at in (first, last) if at)
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
@json_option
def stats(
    config: Path, files: tuple[Path, ...], since: str | None, until: str | None, *, as_json: bool
) -> None:
    """Count calls, decisions, outcomes and refusals."""
    filters = Filters(period=period(since, until))
    figures = display.Stats()
    for found in reader.records(paths_of(config, files)):
        if isinstance(found, CorruptLine):
            figures.damaged += 1
        elif filters.match(found.event, found.raw.content):
            figures.add(found.event)
    if as_json:
        _echo_json(figures.as_json())
    else:
        display.show_stats(screen(), figures)


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
@json_option
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
    faults = 0
    for fault in verification.verify(_with_progress(reader.raw_lines(paths_of(config, files)))):
        faults += 1
        if as_json:
            _echo_json(fault._asdict())
        else:
            click.secho(str(fault), fg="red")
    if as_json:
        _echo_json(verification.as_json(faults))
    else:
        display.show_verification(screen(), verification, faults)
    sys.exit(1 if faults else 0)


def _with_progress(lines: Iterable[RawLine]) -> Iterator[RawLine]:
    """Yield lines, and show their number on a terminal meanwhile."""
    from rich.console import Console  # noqa: PLC0415 - for this command only
    from rich.progress import Progress, TextColumn  # noqa: PLC0415 - the same

    with Progress(
        TextColumn("{task.completed:,.0f} lines read, now in {task.description}"),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task("", total=None)
        for number, line in enumerate(lines):
            if number % PROGRESS_LINES == 0:
                progress.update(task, completed=number, description=line.path.name)
            yield line


def _echo_json(value: Any) -> None:
    click.echo(msgspec.json.encode(value).decode())


# ---- filters


@dataclass(frozen=True)
class Filters:
    """What a line must match; ``None`` matches any line."""

    alias: str | None = None
    """An alias of the request in any spelling. A name without a host also matches the user part."""
    period: tuple[datetime | None, datetime | None] = (None, None)
    """From when until before when."""
    where: Sequence[tuple[str, str]] = ()
    """Fields of the line, of one of its steps, or parameters of the request, with their values."""
    text: str | None = None
    """Text anywhere in the line, in any case."""
    hash_personal: Callable[[str], str | None] | None = None
    """Returns what is written for an alias, if aliases are hashed."""

    def match(self, event: Mapping[str, Any], content: bytes) -> bool:
        """Return whether a line matches all filters."""
        return (
            self._matches_time(event)
            and self._matches_step(event)
            and all(
                field in STEP_FIELDS or _has(event, field, value) for field, value in self.where
            )
            and (self.text is None or self.text.casefold() in content.decode().casefold())
            and (self.alias is None or self._matches_alias(event, self.alias))
        )

    def _matches_time(self, event: Mapping[str, Any]) -> bool:
        since, until = self.period
        if since is None and until is None:
            return True
        try:
            at = datetime.fromisoformat(event["timestamp"])
        except (KeyError, TypeError, ValueError):
            return False
        if at.tzinfo is None:  # not written by us: our times are in UTC too
            at = at.replace(tzinfo=UTC)
        return (since is None or at >= since) and (until is None or at < until)

    def _matches_step(self, event: Mapping[str, Any]) -> bool:
        """Return whether one step has all fields of a step that are asked for."""
        wanted = [(field, value) for field, value in self.where if field in STEP_FIELDS]
        steps = event.get("steps")
        return not wanted or any(
            isinstance(step, dict) and all(step.get(field) == value for field, value in wanted)
            for step in (steps if isinstance(steps, list) else ())
        )

    def _matches_alias(self, event: Mapping[str, Any], text: str) -> bool:
        alias = Alias(text)
        required = {alias, text}
        if self.hash_personal is not None and (hashed := self.hash_personal(alias)) is not None:
            required.add(hashed)
        return any(
            value in required
            or (found := Alias(value)) in required
            or (alias.bare and found.user == alias.user)
            for value in _parameters(event, "alias")
        )


def _has(event: Mapping[str, Any], field: str, value: str) -> bool:
    if field in event:
        return bool(event[field] == value) or json.dumps(event[field]) == value
    return value in _parameters(event, field)


def _parameters(event: Mapping[str, Any], suffix: str) -> Iterator[str]:
    """Yield the texts of request parameters whose name ends in ``suffix``.

    Anything may be in a line that another program wrote, and it must not end a search.
    """
    request = event.get("request")
    for name, value in (request if isinstance(request, dict) else {}).items():
        if name.lower().replace("-", "_").endswith(suffix):
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, str):
                    yield item
