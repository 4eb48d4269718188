"""Command ``pexpolicy explain``."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from pexpolicy.audit.reader import file_and_rotated, raw_lines, records
from pexpolicy.audit.redaction import (
    REMOVED,
    Redaction,
    plain_steps,
    redact_annotations,
    redact_changes,
)
from pexpolicy.cli.audit import configured, records_of, settings_of, time
from pexpolicy.cli.common import (
    build,
    config_option,
    examples,
    flag,
    json_option,
    key_value,
    print_json,
    print_value,
    refuse,
    repeatable,
)
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import JSON
from pexpolicy.errors import full_traceback
from pexpolicy.explain.explanation import Explanation, without_secrets
from pexpolicy.explain.explanation import explain as explain_request
from pexpolicy.explain.request_forms import (
    ALIAS,
    InvalidRequestError,
    RecordedRequest,
    of_audit_line,
    read_request,
    with_parameters,
)
from pexpolicy.models.context import DryRunClock
from pexpolicy.models.difference import describe_changes
from pexpolicy.models.outcome import DECIDED, DEFAULT, AdjustedStep
from pexpolicy.models.request import ORIGIN, POLICY_PREFIX, alias_of, parameters_of, withheld_values
from pexpolicy.policy import BuildContext
from pexpolicy.replay.comparison import compare, of_answer, of_record
from pexpolicy.testing.report import QUIET, TITLE, WARNING, Cell, Line, Part, Table, print_parts
from pexpolicy.testing.requests import composed
from pexpolicy.text import did_you_mean, is_utf8, printable

DEFAULT_ENDPOINT = "service_configuration"
STYLES = {"decided": "green", "adjusted": "green", "abstained": "dim"}
"""The colours of outcomes; others are red."""
_DECISION_ID = re.compile(r"0[0-9a-f]{7}(?:-[0-9a-f-]{0,27})?")
"""A UUID version 7, or its beginning; the first digit is 0 until the year 4199."""
_NO_ALIAS = re.compile(r"\s|://|^[/?{\[]|\?.*=|^[^;]*=.*=")
"""What no alias has; the parameters of an alias, each after a ``;``, may have several ``=``."""
_NAMES = ("local_alias", "service_name", "unique_service_name", "q")
"""Parameters that are the called alias, are derived from it, or search for it."""


@click.command(
    epilog=examples(
        "pexpolicy explain meet@example.com --set remote_alias=alice@example.com",
        "pexpolicy explain meet@example.com --at '22:00 Europe/Oslo'",
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
@repeatable(
    "--set",
    "pairs",
    type=key_value,
    metavar="KEY=VALUE",
    help="Set a parameter of the request. May be given several times.",
)
@click.option(
    "--at",
    metavar="TIME",
    help="The time of conditions on the time: 22:00, '2026-12-24 22:00', with an offset or zone as "
    "in '2026-12-24 22:00 Europe/Oslo', or now. By default that of the record, or now.",
)
@json_option
@flag("--show-secrets", help="Print PINs and passwords of the reply as well.")
@flag("--verbose", "-v", help="Print the assumed parameters of an alias.")
@flag("--traceback", help="Print the full traceback of each failure.")
def explain(  # noqa: PLR0913 - the options of the command
    config: Path,
    request_text: str,
    endpoint: str | None,
    pairs: tuple[tuple[str, str], ...],
    at: str | None,
    *,
    as_json: bool,
    show_secrets: bool,
    verbose: bool,
    traceback: bool,
) -> None:
    """Show each step of the decision on REQUEST, and the reply.

    REQUEST is an alias, a decision ID or its beginning, a request path with its query, a whole URL,
    or a line of the audit log, of the support log of Infinity or of the log of a proxy; - reads it
    from standard input. An alias is asked about as a browser calls it; --set changes any parameter.

    Reports paths that the server would not answer, such as one without the base path. The reply is
    indented on a terminal, and otherwise printed byte for byte.
    """
    changes: dict[str, list[str]] = {}
    for key, value in pairs:
        changes.setdefault(key, []).append(value)
    try:
        request = requested(request_text, config, endpoint, changes)
        remarks, moment = doubts(request, changes), parse_at(at, request.at)
        clock = DryRunClock(None if moment is None else moment.timestamp())
        policy = build(config, context=BuildContext(wall_clock=clock), debug=traceback)

        async def answer() -> Explanation:
            async with policy.serving():
                return await explain_request(policy, request, moment=moment)

        explained = asyncio.run(answer())
    except InvalidRequestError as error:
        refuse(str(error))
    shown = as_document(explained, moment, remarks, config, show_secrets=show_secrets)
    if as_json:
        print_json(shown)
    else:
        hidden = () if verbose else shown["assumed"]
        print_parts([*_of_request(shown, request.alias, hidden), *_of_answer(shown)])
        if shown["reply"] is None:
            click.echo(f"({shown['bytes']} bytes)")
        elif sys.stdout.isatty():
            print_value(shown["reply"])
        else:
            reply = explained.answer.reply
            click.echo(reply.body if show_secrets else without_secrets(explained)[0])
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
        raise InvalidRequestError("the request is not UTF-8 text")
    found = None
    if endpoint is not None:
        if not text or POLICY_PREFIX in text or text.startswith("{"):
            raise InvalidRequestError("--endpoint is for an alias, not for a recorded request")
        found = _of_alias(endpoint, text, shape)
    elif _DECISION_ID.fullmatch(text.lower()):
        found = _from_audit(text.lower(), config)
    if found is None and text and POLICY_PREFIX not in text and not _NO_ALIAS.search(text):
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
    name = request.endpoint
    known = parameters_of(ENDPOINTS[name].request)
    names = {*known, *(parameter.wire for parameter in known.values()), "alias", *ORIGIN}
    return found + [
        f"{key} is not a known parameter of {name}{did_you_mean(key, names)}"
        for key in changes.keys() - names
        if not key.startswith(("idp_attributes.", "idp_attribute_"))
    ]


def parse_at(text: str | None, recorded: datetime | None) -> datetime | None:
    """Return the time of ``--at`` in its zone, or that of the record; ``None`` for the present.

    A time without a zone is in that of this machine, and one without a day is that of today.
    """
    if text is None or text == "now":
        return recorded if text is None else None
    return time(text)


def _of_alias(endpoint: str, alias: str, shape: str | None = None) -> RecordedRequest:
    """Return the request of a node for an alias, with the parameters of a usual call."""
    if ENDPOINTS[endpoint].path.endswith("/"):
        names = {"alias"}
    elif endpoint == DEFAULT_ENDPOINT:
        names = {"local_alias"}
    else:
        names = parameters_of(ENDPOINTS[endpoint].request).keys() & _NAMES
    made = composed(endpoint, shape, dict.fromkeys(names, alias))
    assumed = frozenset(made.params) - names
    return RecordedRequest(endpoint, alias_of(made), made.params, ALIAS, assumed=assumed)


def _from_audit(beginning: str, config: Path) -> RecordedRequest | None:
    """Return the request of the call in the audit log; ``None`` for what may be an alias too."""
    settings, certain = settings_of(config), "-" in beginning
    if settings.audit.path is None and not certain:
        return None
    mark = f'"decision_id":"{beginning}'.encode()
    lines = raw_lines(file_and_rotated(configured(settings)))
    found = records_of(records(line for line in lines if mark in line.content))
    calls = {r.event["decision_id"]: r.event for r in found if r.event["event"] == "decision"}
    if len(calls) > 1:
        refuse(f"{len(calls)} decision IDs begin with {beginning}: write more of it")
    if not calls and certain:
        refuse(f"no call in the audit log has a decision ID that begins with {beginning}")
    return of_audit_line(*calls.values()) if calls else None


# ---- the explanation


def as_document(
    explained: Explanation,
    moment: datetime | None,
    remarks: list[str],
    config: Path,
    *,
    show_secrets: bool,
) -> dict[str, Any]:
    """Return the request, each step and the reply, for programs."""
    redaction, request = Redaction(), explained.request
    facts, withheld = redaction.request(request.endpoint, request.params, request.alias)
    outcome, reply = explained.answer.outcome, explained.answer.reply
    annotations, left_out = redact_annotations(outcome.request, redaction)
    body, removed = (reply.body, []) if show_secrets else without_secrets(explained)
    steps = msgspec.to_builtins(plain_steps(outcome))
    for step, written in zip(outcome.steps, steps, strict=True):
        if isinstance(step, AdjustedStep):
            written["changes"] = redact_changes(step, None if show_secrets else redaction)
    return {
        "endpoint": request.endpoint,
        "form": request.form,
        "at": None if moment is None else moment.isoformat(),
        "request": facts,
        **({} if (name := outcome.request.environment) is None else {"environment": name}),
        "assumed": sorted(request.assumed & facts.keys()),
        "not_shown": withheld,
        "remarks": [*remarks, *_other_configuration(explained, redaction)],
        "config": str(config),
        "path_problem": explained.path_problem or None,
        "steps": steps,
        "decided_by": outcome.decided_by,
        "action": outcome.decision.action,
        "reason": outcome.decision.reason,
        "notes": explained.notes,
        "warnings": list(outcome.decision.warnings),
        "annotations": annotations,
        "status": reply.status,
        "content_type": reply.content_type,
        "bytes": len(reply.body),
        "reply": json.loads(body) if reply.content_type == JSON else None,
        "removed": [*removed, *left_out],
    }


def _other_configuration(explained: Explanation, redaction: Redaction) -> Iterator[str]:
    """Yield what an audit line of another configuration records, and what differs now."""
    line, now, endpoint = explained.request.line, explained.policy_hash, explained.request.endpoint
    if line is None or line.policy_hash in ("", now):
        return
    old, new = of_record(line), of_answer(explained.answer, redaction)
    before, after = (f"{one.word(endpoint)} by {one.decided_by}" for one in (old, new))
    told = f"recorded: {before} ({line.policy_hash})", f"this configuration ({now}): {after}"
    changes = compare(old, new) if before == after else {}
    yield "; ".join(filter(None, (*told, describe_changes(changes))))


def _of_request(shown: Mapping[str, Any], alias: str, hidden: Collection[str]) -> Iterator[Line]:
    """Yield what a terminal shows of the request in a document."""
    yield Line(" ".join(filter(None, (shown["endpoint"], alias))), TITLE)
    if "environment" in shown:
        yield Line(f"of the environment {shown['environment']}", indent=2)
    for name, value in shown["request"].items():
        if name not in ("alias", *hidden):
            yield Line(f"{name} = {value}", indent=2)
    if hidden:
        yield Line(f"({len(hidden)} parameters of such a call: -v shows them)", indent=2)
    for name in shown["not_shown"]:
        yield Line(f"{name} = (not shown)", indent=2)
    if shown["at"] is not None:
        moment = datetime.fromisoformat(shown["at"])
        yield Line(f"at {moment:%A %Y-%m-%d %H:%M:%S %Z}", indent=2)
    for text in filter(None, (*shown["remarks"], shown["path_problem"])):
        yield Line(f"note: {text}", WARNING)


def _of_answer(shown: Mapping[str, Any]) -> Iterator[Part]:
    """Yield what it shows of the answer, without the reply."""
    rows = [_step(step) for step in shown["steps"]]
    if shown["decided_by"] == DEFAULT:
        rows.append((DEFAULT, (DECIDED, "green"), "", "no plugin decided"))
    yield from (Line(""), Table(("asked", "outcome", "ms", ""), rows))
    for plugin, values in sorted(shown["annotations"].items()):
        for name, value in sorted(values.items()):
            yield Line(f"annotation: {plugin}.{name} = {value}")
    yield from (Line(f"note: {text}") for text in shown["notes"])
    yield from (Line(f"warning: {text}") for text in shown["warnings"])
    if shown["removed"]:
        hint = "; --show-secrets prints the complete reply"
        yield Line(f"not shown: {', '.join(shown['removed'])}{hint}", QUIET)
    yield Line(f"HTTP {shown['status']} {shown['content_type']}", TITLE)


def _step(step: Mapping[str, Any]) -> tuple[Cell, ...]:
    does = step.get("hook", "").partition("_")[0]
    asked = f"{step['plugin']} ({does}s)" if does else step["plugin"]
    detail = step.get("detail") or ", ".join(step.get("fields", ()))
    if "changes" in step:
        detail = describe_changes(step["changes"])
    outcome = step["outcome"], STYLES.get(step["outcome"], "red")
    return asked, outcome, f"{step['ms']:.2f}", detail
