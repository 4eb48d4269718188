"""``pexpolicy explain``."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from pexpolicy.cli.common import build_or_exit, capture_log, config_option, fail
from pexpolicy.cli.examples import examples
from pexpolicy.cli.explain_display import Display, as_json
from pexpolicy.cli.request_input import doubts, parse_at, parse_changes, requested
from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import full_traceback
from pexpolicy.explain.explanation import (
    Explanation,
    LocalPolicy,
    LocalPolicyError,
    load_local_policy,
)
from pexpolicy.explain.explanation import explain as explain_request
from pexpolicy.explain.request_forms import InvalidRequestError, RecordedRequest, endpoint_of
from pexpolicy.log.capture import LogHandler
from pexpolicy.log.console import ServerLog
from pexpolicy.models.wall_clock import DryRunClock
from pexpolicy.models.withheld import withheld_values
from pexpolicy.policy import BuildContext
from pexpolicy.server.event_loop import run
from pexpolicy.text import printable


@click.command(
    epilog=examples(
        "pexpolicy explain meet@example.com --set remote_alias=alice@example.com",
        "pexpolicy explain meet@example.com --at '22:00 Europe/Oslo' --all",
        "pexpolicy explain '/policy/v1/participant/location?remote_address=10.44.1.2'",
        "pexpolicy explain 019f3c7e --against new.toml",
    )
)
@config_option
@click.argument("request_text", metavar="REQUEST")
@click.option(
    "--endpoint",
    type=click.Choice(list(ENDPOINTS)),
    metavar="NAME",
    help="What to ask about the alias REQUEST; by default service_configuration.",
)
@click.option(
    "--set",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a parameter of the request. May be given several times.",
)
@click.option(
    "--at",
    metavar="TIME",
    help="The time of conditions on the time: 22:00, '2026-12-24 22:00', with an offset or zone as "
    "in '2026-12-24 22:00 Europe/Oslo', or now. By default that of the record, or now.",
)
@click.option("--all", "ask_all", is_flag=True, help="Ask the plugins after the decision as well.")
@click.option(
    "--against",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Show the decision of another configuration as well, and what differs.",
)
@click.option(
    "--local-policy",
    "script",
    metavar="SCRIPT",
    help="Show what this local policy script makes of the reply on the node.",
)
@click.option(
    "--service-config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The service that Infinity itself has for the call, as JSON, for --local-policy.",
)
@click.option("--json", "print_json", is_flag=True, help="Print JSON.")
@click.option("--show-secrets", is_flag=True, help="Print PINs and passwords of the reply as well.")
@click.option("--traceback", is_flag=True, help="Print the full traceback of each failure.")
def explain(  # noqa: PLR0913, PLR0917 - the options of the command
    config: Path,
    request_text: str,
    endpoint: str | None,
    pairs: tuple[str, ...],
    at: str | None,
    against: Path | None,
    script: str | None,
    service_config: Path | None,
    *,
    ask_all: bool,
    print_json: bool,
    show_secrets: bool,
    traceback: bool,
) -> None:
    """Show each step of the decision on REQUEST, and the reply.

    REQUEST is an alias, a decision ID or its beginning, a request path with its query, a whole URL,
    a cURL command, or a line of the audit log, of the support log of Infinity or of the log of a
    proxy; - reads it from standard input. An alias is asked about as a browser calls it; --set
    changes any parameter.

    Reports paths that the server would not answer, such as one without the base path. The reply is
    indented on a terminal, and otherwise printed byte for byte.
    """
    changes = parse_changes(pairs)
    if against is not None and str(against).startswith(("http:/", "https:/")):
        msg = (
            "name a configuration; to compare with the answer of a server, write REQUEST into a "
            "file FILE, and run pexpolicy replay FILE --against URL"
        )
        raise click.BadParameter(msg, param_hint="--against")
    try:
        request = requested(request_text, config, endpoint, changes)
        remarks = doubts(request, changes)
        moment = parse_at(at, request.at)
        log, handler = capture_log(debug=traceback)
        local_policy = _local_policy(script, service_config, request)
        walks = [
            walk(
                path,
                request,
                moment,
                local_policy=local_policy,
                ask_all=ask_all,
                log=log,
                handler=handler,
            )
            for path in (config, against)
            if path is not None
        ]
    except (InvalidRequestError, LocalPolicyError) as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(2)
    if print_json:
        shown = as_json(request, moment, remarks, walks, show_secrets=show_secrets)
        click.echo(json.dumps(shown, indent=2))
    else:
        # After the event loop: the watchdog would blame the last plugin for the imports of rich.
        Display(show_secrets=show_secrets).show(request, moment, remarks, walks)
    if traceback:
        for _, explanation in walks:
            _show_tracebacks(explanation, err=print_json)


def _local_policy(
    script: str | None, service_config: Path | None, request: RecordedRequest
) -> LocalPolicy | None:
    if script is None:
        if service_config is not None:
            msg = "--service-config is for --local-policy: name a script as well"
            raise InvalidRequestError(msg)
        return None
    return load_local_policy([script], endpoint_of(request.url)[0], service_config)


def walk(
    config: Path,
    request: RecordedRequest,
    moment: datetime | None,
    *,
    local_policy: LocalPolicy | None = None,
    ask_all: bool,
    log: ServerLog,
    handler: LogHandler,
) -> tuple[Path, Explanation]:
    """Build a configuration and ask it."""
    clock = DryRunClock(None if moment is None else moment.timestamp())
    policy = build_or_exit(config, log=log, options=BuildContext(wall_clock=clock))
    handler.use(policy.log_levels)

    async def answer() -> Explanation:
        async with policy.serving():
            explained = await explain_request(policy, request, all=ask_all)
        if local_policy is None:
            return explained
        outcome = explained.answer.outcome
        async with local_policy.running():
            after = await local_policy.after(
                explained.endpoint,
                outcome.request,
                outcome.decision,
                clock(),
                policy.settings.extras,
            )
        return replace(explained, local_policy=after)

    try:
        explained = run(answer())
    except ConfigError as error:
        fail(error)
    if moment is not None:
        explained.notes.extend(
            f"{plugin.name} runs in processes of its own, which have the present time"
            for plugin in policy.plugins
            if plugin.is_isolated
        )
    return config, explained


def _show_tracebacks(explanation: Explanation, *, err: bool) -> None:
    secrets = withheld_values(explanation.answer.outcome.request)
    for error in explanation.errors:
        click.echo(err=err)
        for line in full_traceback(error, secrets):
            click.echo(printable(line), err=err)
