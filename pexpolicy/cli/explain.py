"""Command ``pexpolicy explain``."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text

from pexpolicy.audit.reader import file_and_rotated, raw_lines, read
from pexpolicy.audit.redaction import REMOVED, Redaction, redact_annotations, redact_changes
from pexpolicy.cli.audit import parse_time, paths_of, records_of, settings_of
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
from pexpolicy.cli.text import Cell, as_text, print_lines, print_table, screen
from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import JSON
from pexpolicy.errors import full_traceback
from pexpolicy.explain.explanation import (
    Explanation,
    LocalPolicyError,
    load_local_policy,
    local_policy_files,
    without_secrets,
)
from pexpolicy.explain.explanation import explain as explain_request
from pexpolicy.explain.request_forms import (
    ALIAS,
    InvalidRequestError,
    RecordedRequest,
    endpoint_of,
    of_audit_line,
    read_request,
    with_parameters,
)
from pexpolicy.models.context import DryRunClock
from pexpolicy.models.decision import Decision
from pexpolicy.models.difference import describe_changes
from pexpolicy.models.outcome import DECIDED, DEFAULT, AdjustedStep, Outcome, Step
from pexpolicy.models.request import POLICY_PREFIX, parameters_of
from pexpolicy.models.request_secrets import withheld_values
from pexpolicy.policy import BuildContext
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

        explained = asyncio.run(answer())
    except (InvalidRequestError, LocalPolicyError) as error:
        refuse(str(error))
    except ConfigError as error:
        fail(error)
    shown = as_document(request, moment, remarks, config, explained, show_secrets=show_secrets)
    if as_json:
        click.echo(json.dumps(shown, indent=2))
    else:
        show_document(shown, request, moment, explained, show_secrets=show_secrets)
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
    if text is None or text == "now":
        return recorded if text is None else None
    try:
        return parse_time(text, datetime.now(UTC))
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
        more = [f"and {len(calls) - MAX_LISTED} more"] * (len(calls) > MAX_LISTED)
        text = f"{len(calls)} decision IDs begin with {beginning}; write more of one of them:"
        refuse("\n  ".join([text, *listed, *more]))
    if not calls and certain:
        refuse(f"no call in the audit log has a decision ID that begins with {beginning}")
    return of_audit_line(next(iter(calls.values()))) if calls else None


def _calls(paths: list[Path], beginning: str) -> dict[str, dict[str, Any]]:
    """Return the lines of calls by decision ID, the newest files first."""
    mark = f'"decision_id":"{beginning}'.encode()
    calls: dict[str, dict[str, Any]] = {}
    for path in reversed(paths):
        lines = (raw for raw in raw_lines([path]) if mark in raw.content or raw.damage)
        for found in records_of(chain.from_iterable(map(read, lines))):
            if found.event["event"] == "decision":
                calls[str(found.event.get("decision_id"))] = found.event
        if calls and len(beginning) == WHOLE_ID:
            break
    return calls


def _summary(event: Mapping[str, Any]) -> str:
    request = event.get("request") or {}
    alias = request.get("local_alias") or request.get("alias") or ""
    parts = (event.get("decision_id"), event.get("timestamp"), event.get("endpoint"), alias)
    return printable("  ".join(str(part) for part in parts if part))


STYLES = {"decided": "green", "adjusted": "green", "abstained": "dim"}
"""The colours of outcomes; others are red."""


def as_document(
    request: RecordedRequest,
    moment: datetime | None,
    remarks: list[str],
    config: Path,
    explained: Explanation,
    *,
    show_secrets: bool,
) -> dict[str, Any]:
    """Return the request, each step and the reply, for programs."""
    facts, withheld = Redaction().request(explained.endpoint, explained.url.query, explained.alias)
    outcome, reply = explained.answer.outcome, explained.answer.reply
    annotations, left_out = redact_annotations(outcome.request, Redaction())
    body, removed = (reply.body, []) if show_secrets else without_secrets(explained)

    def masked(decision: Decision) -> dict[str, Any]:
        hidden = None if show_secrets else Redaction().masked_fields(explained.endpoint, decision)
        return {**decision.facts(), **(hidden or {})}

    def written(step: Step) -> dict[str, Any]:
        optional = {"hook": step.hook, "detail": step.detail, "fields": list(step.fields or ())}
        found: dict[str, Any] = {"plugin": step.plugin, "outcome": step.outcome, "ms": step.ms}
        found |= {name: value for name, value in optional.items() if value}
        if isinstance(step, AdjustedStep):
            redaction = None if show_secrets else Redaction()
            found["changes"] = redact_changes(explained.endpoint, step, redaction)
        return found

    after = explained.local_policy
    script: dict[str, Any] | None = None
    if after is not None:
        names = ("script", "verdict", "changed", "notes")
        script = {name: getattr(after, name) for name in names} | {"applied": after.is_applied}
        if after.decision is not None:
            result = masked(after.decision)
            script |= {"action": result.pop("action"), "result": result}
    return {
        "endpoint": explained.endpoint,
        "form": request.form,
        "at": None if moment is None else moment.isoformat(),
        "request": facts,
        "not_shown": withheld,
        "remarks": remarks,
        "config": str(config),
        "path_problem": explained.path_problem or None,
        "steps": [*map(written, outcome.steps)],
        "decided_by": outcome.decided_by,
        "action": outcome.decision.action,
        "reason": outcome.decision.reason,
        "not_asked": [
            written(step) | {"would": _in_words(rest, masked)}
            for rest in explained.rest
            for step in rest.steps
        ],
        "notes": explained.notes,
        "warnings": list(outcome.decision.warnings),
        "annotations": annotations,
        "status": reply.status,
        "content_type": reply.content_type,
        "bytes": len(reply.body),
        "reply": json.loads(body) if reply.content_type == JSON else None,
        "removed": [*removed, *left_out],
        "local_policy": script,
    }


def _in_words(outcome: Outcome, masked: Callable[[Decision], dict[str, Any]]) -> str | None:
    """Return the decision of a plugin that was asked alone; ``None`` if it decided nothing."""
    if outcome.decided_by == DEFAULT:
        return None
    facts = masked(outcome.decision)
    action, reason = facts.pop("action"), facts.pop("reason", None)
    fields = (f"{name} = {as_text(value)}" for name, value in facts.items() if value != "")
    return f"{action}: {', '.join(filter(None, [reason, *fields]))}".removesuffix(": ")


def show_document(
    shown: dict[str, Any],
    request: RecordedRequest,
    moment: datetime | None,
    explained: Explanation,
    *,
    show_secrets: bool,
) -> None:
    """Print a document; elsewhere than on a terminal the reply is not indented."""
    console = screen()
    console.print(Text(shown["endpoint"], "bold cyan"), Text(printable(explained.alias)))
    print_lines(console, *_request_lines(shown, request, moment), "")
    if shown["path_problem"]:
        print_lines(console, (shown["path_problem"], "bold red"))
    _show_steps(console, shown)
    head = f"HTTP {shown['status']} {shown['content_type']}", "bold"
    print_lines(console, *_remarks(shown), "", head)
    if shown["content_type"] == JSON:
        body = explained.answer.reply.body if show_secrets else without_secrets(explained)[0]
        _show_body(console, body)
    else:
        console.print(f"({shown['bytes']} bytes)")
    if shown["removed"]:
        text = f"not shown: {', '.join(shown['removed'])}"
        hint = "" if show_secrets else "; --show-secrets prints the complete reply"
        print_lines(console, (text + hint, "dim"))
    if (after := shown["local_policy"]) is not None:
        print_lines(
            console,
            "",
            (f"local policy {after['script']}", "bold"),
            *((f"note: {note}", "dim") for note in after["notes"]),
            (after["verdict"], "green" if after["applied"] else "red"),
        )
        if "action" in after:
            result = {"action": after["action"], "result": after["result"]}
            _show_body(console, json.dumps(result, ensure_ascii=False).encode())


def _request_lines(
    shown: dict[str, Any], request: RecordedRequest, moment: datetime | None
) -> Iterator[tuple[str, str]]:
    facts = {name: value for name, value in shown["request"].items() if name != "alias"}
    for name in sorted(facts, key=lambda name: name not in request.given):
        yield f"  {name} = {facts[name]}", "" if name in request.given else "dim"
    for name in shown["not_shown"]:
        yield f"  {name} = (not shown)", "dim"
    if moment is not None:
        by = f", the time of the {request.form}" if request.at == moment else ""
        yield f"  at {moment:%A %Y-%m-%d %H:%M:%S %Z}{by}", "cyan"
    for remark in shown["remarks"]:
        yield f"note: {remark}", "yellow"


def _remarks(shown: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for step in shown["not_asked"]:
        said = "; ".join(filter(None, (step.get("detail"), step["would"])))
        yield f"asked as well: {step['plugin']} {step['outcome']}{': ' * bool(said)}{said}", ""
    for plugin, values in shown["annotations"].items():
        for name, value in values.items():
            yield f"annotation: {plugin}.{name} = {value}", "dim"
    for note in shown["notes"]:
        yield f"note: {note}", "dim"
    for warning in shown["warnings"]:
        yield f"warning: {warning}", "yellow"


def _show_steps(console: Console, shown: dict[str, Any]) -> None:
    rows: list[tuple[Cell, ...]] = []
    for step in shown["steps"]:
        asked = f"{step['plugin']} (adjusts)" if "hook" in step else step["plugin"]
        if "changes" in step:
            detail = describe_changes(step["changes"])
        else:
            detail = step.get("detail") or ", ".join(step.get("fields", ()))
        outcome = step["outcome"], STYLES.get(step["outcome"], "red")
        rows.append((asked, outcome, f"{step['ms']:.2f}", detail))
    if shown["decided_by"] == DEFAULT:
        rows.append((DEFAULT, (DECIDED, "green"), "", "no plugin decided"))
    print_table(console, ("asked", "outcome", "ms", ""), rows)


def _show_body(console: Console, body: bytes) -> None:
    if console.is_terminal:
        text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
        lines = "\n".join(map(printable, text.splitlines()))
        console.print(JSONHighlighter()(lines), soft_wrap=True)
    else:
        # Not by the console, which would change it.
        console.file.write(body.decode() + "\n")
