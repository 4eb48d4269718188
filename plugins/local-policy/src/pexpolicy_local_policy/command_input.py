"""What the commands share: scripts, variables, and text on the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from pexpolicy.explain.explanation import LocalPolicyError
from pexpolicy.text import printable
from pexpolicy_local_policy.variables import VARIABLES

EX_USAGE = 2
EX_DATAERR = 65
"""Exit code where Infinity would drop what a script gives (sysexits.h)."""
FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
KINDS = click.Choice(list(VARIABLES))


@contextmanager
def usage_errors() -> Iterator[None]:
    """Print what cannot be used, and exit with 2."""
    try:
        yield
    except LocalPolicyError as error:
        fail(str(error))


def fail(text: str) -> NoReturn:
    """Print an error and exit with 2."""
    say(text, "red")
    sys.exit(EX_USAGE)


def notes(texts: Iterable[str], label: str = "note", colour: str | None = "yellow") -> None:
    """Print lines with a label on standard error."""
    for text in texts:
        say(f"{label}: {text}", colour)


def say(text: str, colour: str | None = None, *, err: bool = True) -> None:
    """Print a line."""
    click.secho(printable(text), fg=colour, err=err)


def indented(value: Any) -> str:
    """Return indented JSON without characters that control a terminal."""
    lines = json.dumps(value, indent=2, ensure_ascii=False).split("\n")
    return "\n".join(map(_escaped, lines))


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
