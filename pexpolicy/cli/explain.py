"""``pexpolicy explain``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pexpolicy.audit.adjustments import describe_changes, redact_changes
from pexpolicy.audit.annotations import redact_annotations
from pexpolicy.audit.redaction import Redaction
from pexpolicy.cli.common import build_or_exit, config_option, fail
from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints.base import JSON
from pexpolicy.errors import full_traceback
from pexpolicy.explain import Explanation, InvalidRequestError, without_secrets
from pexpolicy.explain import explain as explain_request
from pexpolicy.models.outcome import DECIDED, DEFAULT, AdjustedStep, Step
from pexpolicy.server.event_loop import run
from pexpolicy.text import printable

STYLES = {"decided": "green", "adjusted": "green", "abstained": "dim"}
"""The colours of outcomes; others are red."""


@click.command()
@config_option
@click.argument("request_path", metavar="REQUEST")
@click.option("--show-secrets", is_flag=True, help="Print PINs and passwords of the reply as well.")
@click.option("--traceback", is_flag=True, help="Print the full traceback of each failure.")
def explain(config: Path, request_path: str, *, show_secrets: bool, traceback: bool) -> None:
    """Show each step of the decision on REQUEST, and the reply.

    REQUEST is a request path with its query, a whole URL, or a line of the log of Pexip or of a
    proxy. Reports paths that the server would not answer, such as one without the base path.

    The reply is indented on a terminal, and otherwise printed byte for byte.
    """
    policy = build_or_exit(config, debug=traceback)
    explanations: list[Explanation] = []

    async def answer() -> None:
        async with policy.serving():
            explanations.append(await explain_request(policy, request_path))

    try:
        run(answer())
    except InvalidRequestError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(2)
    except ConfigError as error:
        fail(error)
    # After the event loop: the watchdog would blame the last plugin for the imports of rich.
    for explanation in explanations:
        _show(explanation, show_secrets=show_secrets)
        if traceback:
            _show_tracebacks(explanation)


def _show_tracebacks(explanation: Explanation) -> None:
    secrets = explanation.answer.outcome.request.secrets()
    for error in explanation.errors:
        click.echo()
        for line in full_traceback(error, secrets):
            click.echo(printable(line))


def _show(explanation: Explanation, *, show_secrets: bool) -> None:
    """Print the request, each step, and the reply without its secrets."""
    # The caller, plugins and their errors choose some of the text, so none of it is markup.
    console = Console(highlight=False, markup=False, emoji=False)
    outcome, reply = explanation.answer.outcome, explanation.answer.reply
    _show_request(console, explanation)
    console.print()
    table = Table("asked", "outcome", "ms", "", box=None, header_style="bold")
    for step in outcome.steps:
        style = STYLES.get(step.outcome, "red")
        asked = f"{step.plugin} (adjusts)" if step.hook else step.plugin
        detail = printable(_detail(explanation, step, show_secrets=show_secrets))
        table.add_row(asked, Text(step.outcome, style=style), f"{step.ms:.2f}", detail)
    if outcome.decided_by == DEFAULT:
        table.add_row(DEFAULT, Text(DECIDED, style="green"), "", "no plugin decided")
    console.print(table)
    annotations, _ = redact_annotations(outcome.request, Redaction())
    for plugin, values in annotations.items():
        for name, value in values.items():
            text = f"annotation: {plugin}.{name} = {printable(value)}"
            console.print(Text(text, style="dim"), soft_wrap=True)
    for note in explanation.notes:
        console.print(Text(f"note: {printable(note)}", style="dim"), soft_wrap=True)
    for warning in outcome.decision.warnings:
        console.print(Text(f"warning: {printable(warning)}", style="yellow"))
    console.print()
    console.print(Text(f"HTTP {reply.status} {reply.content_type}", style="bold"))
    if reply.content_type != JSON:
        console.print(f"({len(reply.body)} bytes)")
        return
    body, removed = (reply.body, []) if show_secrets else without_secrets(explanation)
    # Not by the console, which would wrap it.
    click.echo(_indented(body) if sys.stdout.isatty() else body)
    if removed:
        names = ", ".join(removed)
        hint = f"not shown: {names}; --show-secrets prints the complete reply"
        console.print(Text(hint, style="dim"))


def _detail(explanation: Explanation, step: Step, *, show_secrets: bool) -> str:
    """Return the error of a step, what it changed, or the fields that it gave."""
    if isinstance(step, AdjustedStep):
        redaction = None if show_secrets else Redaction()
        return describe_changes(redact_changes(explanation.endpoint, step, redaction))
    return step.detail or ", ".join(step.fields)


def _indented(body: bytes) -> str:
    text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    return "\n".join(map(printable, text.splitlines()))


def _show_request(console: Console, explanation: Explanation) -> None:
    console.print(Text(explanation.endpoint, style="bold cyan"), Text(printable(explanation.alias)))
    if explanation.path_problem:
        console.print(Text(printable(explanation.path_problem), style="bold red"), soft_wrap=True)
    facts, withheld = Redaction().request(explanation.endpoint, explanation.url.query, "")
    for name, value in facts.items():
        console.print(Text(f"  {printable(name)} = {printable(value)}", style="dim"))
    for name in withheld:
        console.print(Text(f"  {printable(name)} = (not shown)", style="dim"))
