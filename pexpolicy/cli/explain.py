"""``pexpolicy explain``."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pexpolicy.audit.redaction import Redaction
from pexpolicy.cli.common import build_or_exit, config_option, fail
from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints.base import JSON
from pexpolicy.explain import Explanation, InvalidRequestError, without_secrets
from pexpolicy.explain import explain as explained
from pexpolicy.models.outcome import DECIDED, DEFAULT
from pexpolicy.server.event_loop import run
from pexpolicy.text import printable


@click.command()
@config_option
@click.argument("request_path", metavar="REQUEST")
@click.option("--show-secrets", is_flag=True, help="Print PINs and passwords of the reply, too.")
def explain(config: Path, request_path: str, *, show_secrets: bool) -> None:
    """Show how REQUEST is decided, step by step, and the exact reply.

    REQUEST is a request path with its query, a whole URL, or a line of Pexip's support log or of
    a proxy's. A path that the server would not answer, such as one without the base path, is told.
    """
    policy = build_or_exit(config)
    answered: list[Explanation] = []

    async def ask() -> None:
        async with policy.serving():
            answered.append(await explained(policy, request_path))

    try:
        run(ask())
    except InvalidRequestError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(2)
    except ConfigError as error:
        fail(error)
    # Not on the loop: loading what draws a table would be held against the plugin asked last.
    for answer in answered:
        _show(answer, show_secrets=show_secrets)


def _show(explained: Explanation, *, show_secrets: bool = False) -> None:
    """Print the request, each step, and the reply: byte for byte, but for the secrets in it."""
    # Callers and plugins choose some of the text, so none of it is read as markup.
    console = Console(highlight=False, markup=False, emoji=False)
    outcome, reply = explained.answer.outcome, explained.answer.reply
    _show_request(console, explained)
    console.print()
    table = Table(box=None, header_style="bold")
    for column in ("asked", "outcome", "ms", ""):
        table.add_column(column)
    for step in outcome.steps:
        style = {"decided": "green", "abstained": "dim"}.get(step.outcome, "red")
        table.add_row(
            step.plugin, Text(step.outcome, style=style), f"{step.ms:.2f}", printable(step.detail)
        )
    if outcome.decided_by == DEFAULT:
        table.add_row(DEFAULT, Text(DECIDED, style="green"), "", "no plugin decided")
    console.print(table)
    for note in explained.notes:
        console.print(Text(f"note: {printable(note)}", style="dim"), soft_wrap=True)
    for warning in outcome.decision.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))
    console.print()
    console.print(Text(f"HTTP {reply.status} {reply.content_type}", style="bold"))
    if reply.content_type == JSON:
        body, removed = (reply.body, []) if show_secrets else without_secrets(explained)
        print(body.decode())  # noqa: T201 - byte for byte, without wrapping
        if removed:
            names = ", ".join(removed)
            hint = f"not shown: {names}; --show-secrets prints the reply as it leaves"
            console.print(Text(hint, style="dim"))
    else:
        console.print(f"({len(reply.body)} bytes)")


def _show_request(console: Console, explained: Explanation) -> None:
    console.print(Text(explained.endpoint, style="bold cyan"), Text(printable(explained.alias)))
    if explained.path_problem:
        console.print(Text(printable(explained.path_problem), style="bold red"), soft_wrap=True)
    facts, withheld = Redaction().request(explained.endpoint, explained.url.query, "")
    for name, value in facts.items():
        console.print(Text(f"  {name} = {printable(value)}", style="dim"))
    for name in withheld:
        console.print(Text(f"  {printable(name)} = (not shown)", style="dim"))
