"""``pexpolicy explain``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from pexpolicy.audit.reader import CorruptLine, file_and_rotated, raw_lines, read
from pexpolicy.audit.redaction import REMOVED
from pexpolicy.cli import explain_display as display
from pexpolicy.cli.audit import parse_time, paths_of, settings_of
from pexpolicy.cli.common import (
    build_or_exit,
    capture_log,
    config_option,
    examples,
    fail,
    json_option,
    key_value_pairs,
    refuse,
)
from pexpolicy.config.plugin_settings import zone_names
from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import full_traceback
from pexpolicy.explain.explanation import (
    Explanation,
    LocalPolicyError,
    load_local_policy,
    local_policy_files,
)
from pexpolicy.explain.explanation import explain as explain_request
from pexpolicy.explain.request_forms import (
    ALIAS,
    InvalidRequestError,
    RecordedRequest,
    endpoint_of,
    of_audit_line,
    parse_moment,
    read_request,
    with_parameters,
)
from pexpolicy.models.context import DryRunClock
from pexpolicy.models.request import POLICY_PREFIX, parameters_of
from pexpolicy.models.request_secrets import withheld_values
from pexpolicy.policy import BuildContext
from pexpolicy.server.event_loop import run
from pexpolicy.testing.requests import composed, url_of
from pexpolicy.text import did_you_mean, is_utf8, printable

DEFAULT_ENDPOINT = "service_configuration"
WHOLE_ID = 36
MAX_LISTED = 10
"""Maximum number of calls that an ambiguous beginning lists."""
_DECISION_ID = re.compile(r"0[0-9a-f]{7}(?:-[0-9a-f-]{0,27})?")
"""A UUID version 7, or its beginning; the first digit is 0 until the year 4199."""
_NAMES = ("local_alias", "service_name", "unique_service_name")
"""Parameters that are the called alias, or are derived from it."""


@click.command(
    epilog=examples(
        "pexpolicy explain meet@example.com --set remote_alias=alice@example.com",
        "pexpolicy explain meet@example.com --at '22:00 Europe/Oslo' --all",
        "pexpolicy explain '/policy/v1/participant/location?remote_address=10.44.1.2'",
        "pexpolicy explain 019f3c7e --json",
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
    "--local-policy",
    "files",
    multiple=True,
    metavar="FILE",
    help="Show what this local policy script makes of the reply on the node. A .json file is the "
    "service that Infinity itself has for the call.",
)
@json_option
@click.option("--show-secrets", is_flag=True, help="Print PINs and passwords of the reply as well.")
@click.option("--traceback", is_flag=True, help="Print the full traceback of each failure.")
def explain(  # noqa: PLR0913 - the options of the command
    config: Path,
    request_text: str,
    endpoint: str | None,
    pairs: tuple[str, ...],
    at: str | None,
    files: tuple[str, ...],
    *,
    ask_all: bool,
    as_json: bool,
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
    try:
        request = requested(request_text, config, endpoint, changes)
        remarks = doubts(request, changes)
        moment = parse_at(at, request.at)
        log, handler = capture_log(debug=traceback)
        scripts, service = local_policy_files(files)
        local_policy = None
        if scripts:
            local_policy = load_local_policy(scripts, endpoint_of(request.url)[0], service)
        clock = DryRunClock(None if moment is None else moment.timestamp())
        policy = build_or_exit(config, context=BuildContext(log=log, wall_clock=clock))
        handler.use(policy.log_levels)

        async def answer() -> Explanation:
            async with policy.serving():
                return await explain_request(
                    policy, request, all=ask_all, moment=moment, local_policy=local_policy
                )

        explained = run(answer())
    except (InvalidRequestError, LocalPolicyError) as error:
        refuse(str(error))
    except ConfigError as error:
        fail(error)
    shown = display.as_json(request, moment, remarks, config, explained, show_secrets=show_secrets)
    if as_json:
        click.echo(json.dumps(shown, indent=2))
    else:
        display.show(shown, request, moment, explained, show_secrets=show_secrets)
    if traceback:
        secrets = withheld_values(explained.answer.outcome.request)
        for raised in explained.errors:
            click.echo(err=as_json)
            for line in full_traceback(raised, secrets):
                click.echo(printable(line), err=as_json)


# ---- the request: an alias, a decision ID, or a record


def requested(
    text: str,
    config: Path,
    endpoint: str | None,
    changes: Mapping[str, list[str]],
    shape: str | None = None,
) -> RecordedRequest:
    """Return the request that the arguments of the command mean, with changed parameters.

    ``shape`` is the kind of call for an alias with an endpoint, such as ``sip``. Raise
    ``InvalidRequestError``; exit with 2 for a decision ID that is not in the audit log or is
    ambiguous.
    """
    if text == "-":
        # Other bytes than UTF-8 become surrogates, as in arguments, whatever the locale is.
        text = sys.stdin.buffer.readline().decode("utf-8", "surrogateescape")
    text = text.strip().removeprefix("\ufeff").strip()
    if not is_utf8(text):
        msg = "the request is not UTF-8 text"
        raise InvalidRequestError(msg)
    name, equals, _ = text.partition("=")
    if equals and any(name in parameters_of(one.request) for one in ENDPOINTS.values()):
        msg = "write the alias alone; other parameters follow it, each with --set, as in:\n"
        raise InvalidRequestError(f"{msg}  pexpolicy explain ALIAS --set {printable(text)}")
    if endpoint is not None:
        if not text or POLICY_PREFIX in text or text.startswith("{"):
            msg = "--endpoint is for an alias; leave it out for a request that was recorded"
            raise InvalidRequestError(msg)
        return with_parameters(_of_alias(endpoint, text, shape), changes)
    found = None
    if _DECISION_ID.fullmatch(text.lower()):
        found = _from_audit(text.lower(), config)
    if found is None and len(text.split()) > 1 and not re.search(r"[/?&={\[<:]", text):
        msg = f"{printable(text)} is not an alias: it contains a space"
        raise InvalidRequestError(msg)
    if found is None and _is_alias(text):
        found = _of_alias(DEFAULT_ENDPOINT, text)
    return with_parameters(found or read_request(text), changes)


def doubts(request: RecordedRequest, changes: Mapping[str, list[str]]) -> list[str]:
    """Return what the record does not tell of the request, and unknown names of parameters."""
    found = []
    if request.missing:
        found.append(f"the audit line was written without {', '.join(request.missing)}")
    if request.altered:
        altered = ", ".join(request.altered)
        found.append(f"the audit line has a hash, or {REMOVED}, in the value of {altered}")
    if request.is_cut:
        found.append("the line is cut: parameters may be missing at its end")
    name, _, _ = endpoint_of(request.url)
    known = parameters_of(ENDPOINTS[name].request)
    names = {*known, *(parameter.wire for parameter in known.values()), "alias", "peer"}
    prefixes = ("idp_attributes.", "idp_attribute_")
    for key in changes.keys() - names:
        if not key.startswith(prefixes):
            guess = did_you_mean(key, names)
            found.append(f"{key} is not a known parameter of {name}{guess}")
    return found


def parse_changes(pairs: Iterable[str]) -> dict[str, list[str]]:
    """Return the values of ``key=value`` arguments by key; raise ``BadParameter``."""
    changes: dict[str, list[str]] = {}
    for key, value in key_value_pairs(pairs, "--set", "remote_address=10.44.0.7"):
        changes.setdefault(key, []).append(value)
    return changes


def parse_at(text: str | None, recorded: datetime | None) -> datetime | None:
    """Return the time of ``--at`` in its zone, or that of the record; ``None`` for the present.

    A time without a zone is in that of this machine, and one without a day is that of today.
    """
    if text is None:
        return recorded
    if text == "now":
        return None
    try:
        return parse_moment(text)
    except ValueError:
        pass
    try:
        clock, _, zone = text.strip().partition(" ")
        if zone in zone_names():
            at = time.fromisoformat(clock)
            return datetime.combine(datetime.now(ZoneInfo(zone)), at, at.tzinfo or ZoneInfo(zone))
        return parse_time(text, datetime.now(UTC)).astimezone()
    except ValueError:
        msg = f"{text!r} is not a time: write now, 22:00, 22:00 Europe/Oslo, 2026-12-24 22:00, or "
        raise click.BadParameter(f"{msg}2026-12-24 22:00 Europe/Oslo", param_hint="--at") from None


def _is_alias(text: str) -> bool:
    # A query has two =, and the parameters of an alias, each after a ;, may have as many.
    other = re.search(r"\s|://|^[/?{\[]|\?.*=|^[^;]*=.*=", text)
    return bool(text) and POLICY_PREFIX not in text and other is None


def _of_alias(endpoint: str, alias: str, shape: str | None = None) -> RecordedRequest:
    """Return the request of a node for an alias, with the parameters of a usual call."""
    if ENDPOINTS[endpoint].path.endswith("/"):
        fields = {"alias": alias}
    elif endpoint == "directory_information":
        fields = {"q": alias}
    else:
        known = parameters_of(ENDPOINTS[endpoint].request)
        fields = {name: alias for name in _NAMES if name in known}
        if endpoint == DEFAULT_ENDPOINT:
            fields = {"local_alias": alias}
    return RecordedRequest(url_of(composed(endpoint, shape, fields)), ALIAS, given=tuple(fields))


def _from_audit(beginning: str, config: Path) -> RecordedRequest | None:
    """Return the request of the call in the audit log; ``None`` for what may be an alias too."""
    certain = "-" in beginning
    if certain:
        paths = paths_of(config, ())
    else:
        settings = settings_of(config)
        file = settings.audit.path
        paths = [] if file is None else file_and_rotated(settings.resolve(file))
    calls = _calls(paths, beginning)
    if len(calls) > 1:
        listed = [_summary(event) for event in list(calls.values())[:MAX_LISTED]]
        more = len(calls) - len(listed)
        if more:
            listed.append(f"and {more} more")
        text = f"{len(calls)} decision IDs begin with {beginning}; write more of one of them:"
        refuse("\n  ".join([text, *listed]))
    if not calls and certain:
        refuse(f"no call in the audit log has a decision ID that begins with {beginning}")
    return of_audit_line(next(iter(calls.values()))) if calls else None


def _calls(paths: list[Path], beginning: str) -> dict[str, dict[str, Any]]:
    """Return the lines of calls by decision ID, the newest files first."""
    mark = f'"decision_id":"{beginning}'.encode()
    calls: dict[str, dict[str, Any]] = {}
    for path in reversed(paths):
        for raw in raw_lines([path]):
            if mark not in raw.content and not raw.damage:
                continue
            for found in read(raw):
                if isinstance(found, CorruptLine):
                    click.secho(str(found), fg="red", err=True)
                elif found.event["event"] == "decision":
                    calls[str(found.event.get("decision_id"))] = found.event
        if calls and len(beginning) == WHOLE_ID:
            break
    return calls


def _summary(event: Mapping[str, Any]) -> str:
    request = event.get("request") or {}
    alias = request.get("local_alias") or request.get("alias") or ""
    parts = (event.get("decision_id"), event.get("timestamp"), event.get("endpoint"), alias)
    return printable("  ".join(str(part) for part in parts if part))
