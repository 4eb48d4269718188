"""``pexpolicy local-policy run``."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from pathlib import Path

import click
from jinja2 import TemplateSyntaxError

from pexpolicy.text import printable
from pexpolicy_local_policy.command_input import (
    EX_DATAERR,
    FILE,
    KINDS,
    SECONDS,
    as_json,
    fail,
    input_of,
    moment,
    notes,
    say,
    text_of,
)
from pexpolicy_local_policy.language import unknown_points
from pexpolicy_local_policy.sandbox import MAX_SCRIPT_LENGTH, parse
from pexpolicy_local_policy.script_process import Job, Rendering, ScriptPool
from pexpolicy_local_policy.variables import Kind, ScriptInput
from pexpolicy_local_policy.verdict import judge

_MAX_SHOWN_LINES = 40


@click.command(
    epilog="\b\nExamples:\n  pexpolicy local-policy run service.jinja2 --input variables.json",
)
@click.argument("script", type=FILE)
@click.option("--kind", type=KINDS, help="By default what the input or the request tells.")
@click.option(
    "--input",
    "input_file",
    type=FILE,
    metavar="FILE",
    help="The variables as JSON, as on Pexip's test page: call_info, service_config, ...",
)
@click.option(
    "--request", metavar="REQUEST", help="A request to take call_info from: a URL or a log line."
)
@click.option(
    "--service-config", type=FILE, metavar="FILE", help="The JSON of service_config alone."
)
@click.option("--at", metavar="TIME", help="The time of pex_now, as '2026-12-24 22:00 UTC'.")
def run(
    script: Path,
    kind: Kind | None,
    input_file: Path | None,
    request: str | None,
    service_config: Path | None,
    at: str | None,
) -> None:
    """Run SCRIPT once: its JSON on standard output, the verdict on standard error.

    Exit code 0: Infinity would apply the JSON. 65: it would drop it. 2: wrong usage.
    """
    if input_file is not None and request is not None:
        fail("write --input or --request, not both")
    found, time = input_of(kind, input_file, request, service_config, moment(at))
    source = text_of(script)
    rendering = asyncio.run(_render(source, found, time))
    verdict = judge(found, rendering)
    notes(found.remarks)
    notes(_remarks(source))
    notes(rendering.debug, "pex_debug_log", "cyan")
    notes(verdict.warnings, "warning")
    if verdict.document is not None:
        click.echo(as_json(verdict.document))
    elif rendering.text.strip():
        _show_output(rendering.text)
    say(f"verdict: {verdict.summary}", "red" if verdict.dropped else "green")
    sys.exit(EX_DATAERR if verdict.dropped else 0)


async def _render(source: str, found: ScriptInput, time: datetime | None) -> Rendering:
    now = None if time is None else time.timestamp()
    async with ScriptPool(1, SECONDS).running() as pool:
        return await pool.run(Job(source, found.variables, now))


def _remarks(source: str) -> list[str]:
    """Return what is unknown about a script, or exceeds what Infinity stores."""
    found = []
    if len(source) > MAX_SCRIPT_LENGTH:
        text = f"the script has {len(source):,} characters; Infinity stores {MAX_SCRIPT_LENGTH:,}"
        found.append(text)
    try:
        tree = parse(source)
    except (TemplateSyntaxError, RecursionError):
        return found
    return found + [f"line {line}: {text}" for line, text in unknown_points(tree)]


def _show_output(text: str) -> None:
    """Print the beginning of an output that is not JSON on standard error, with line numbers."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    click.echo("the output:", err=True)
    for number, line in lines[:_MAX_SHOWN_LINES]:
        click.echo(printable(f"{number:>4}  {line}"), err=True)
    if len(lines) > _MAX_SHOWN_LINES:
        click.echo(f"      (and {len(lines) - _MAX_SHOWN_LINES} more lines)", err=True)
