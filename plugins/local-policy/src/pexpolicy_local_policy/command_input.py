"""What the commands share: scripts, variables, and text on the terminal."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.explain.request_forms import (
    InvalidRequestError,
    endpoint_of,
    parse_moment,
    read_request,
)
from pexpolicy.text import printable
from pexpolicy_local_policy.variables import (
    KIND_OF,
    VARIABLES,
    InputError,
    Kind,
    ScriptInput,
    from_request,
    from_test_page,
)
from pexpolicy_local_policy.verdict import JSON_NUMBERS

EX_USAGE = 2
EX_DATAERR = 65
"""Exit code where Infinity would drop what a script gives (sysexits.h)."""
SECONDS = 2.0
"""Limit for one run of a script by a command."""
FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
KINDS = click.Choice(list(VARIABLES))


def text_of(path: Path) -> str:
    """Return the content of a file, or of standard input for ``-``; exit with 2 on errors."""
    try:
        if str(path) == "-":
            return sys.stdin.read()
        return path.read_bytes().decode()
    except OSError as error:
        fail(f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        fail(f"{path}: is not UTF-8 text (byte {error.start})")


def json_of(path: Path) -> Any:
    """Return the value of a JSON file; exit with 2 on errors."""
    try:
        return json.loads(text_of(path), **JSON_NUMBERS)
    except (ValueError, RecursionError) as error:
        fail(f"{path}: is not JSON: {error}")


def input_of(
    kind: Kind | None,
    path: Path | None,
    request: str | None,
    service_config: Path | None = None,
    at: datetime | None = None,
) -> tuple[ScriptInput, datetime | None]:
    """Return the variables that the options name, and the time; exit with 2 on errors."""
    try:
        if request is not None:
            recorded = read_request(request)
            name, alias, _ = endpoint_of(recorded.url)
            if name not in KIND_OF or kind not in (None, KIND_OF[name]):
                fail(f"a request of {name} is not one for {kind or 'any'} script")
            parsed = ENDPOINTS[name].parse(recorded.url.query, alias)
            found = from_request(KIND_OF[name], parsed)
            at = at or recorded.at
        elif path is not None:
            found = from_test_page(json_of(path), kind)
        else:
            found = from_test_page({"call_info": {}}, kind)
        if service_config is not None:
            variables = {**found.variables, "service_config": json_of(service_config)}
            found = from_test_page(variables, found.kind)
    except (InputError, InvalidRequestError) as error:
        fail(f"{path}: {error}" if path is not None else str(error))
    return found, at


def moment(text: str | None) -> datetime | None:
    """Parse the option ``--at``; exit with 2 for other text."""
    if text is None:
        return None
    try:
        return parse_moment(text)
    except ValueError as error:
        fail(f"--at: {error}")


def fail(text: str) -> NoReturn:
    """Print an error and exit with 2."""
    say(text, "red")
    sys.exit(EX_USAGE)


def notes(texts: Iterable[str], label: str = "note", colour: str = "yellow") -> None:
    """Print lines with a label on standard error."""
    for text in texts:
        say(f"{label}: {text}", colour)


def say(text: str, colour: str | None = None, *, err: bool = True) -> None:
    """Print a line, broken between words where it is longer than the terminal is wide."""
    shown = printable(text)
    if (sys.stderr if err else sys.stdout).isatty():
        shown = textwrap.fill(
            shown,
            shutil.get_terminal_size().columns,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    click.secho(shown, fg=colour, err=err)


def indented(value: Any) -> str:
    """Return indented JSON without characters that control a terminal."""
    lines = json.dumps(value, indent=2, ensure_ascii=False).split("\n")
    return "\n".join(map(_escaped, lines))


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
