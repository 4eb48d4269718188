"""The page of one decision: the request, each step, the reply, and the rest of the call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from aiohttp import hdrs, web

from pexpolicy.models.difference import describe_changes
from pexpolicy_console.context import SESSION, console_of
from pexpolicy_console.index.index import IndexUnavailable
from pexpolicy_console.index.lines import rule_of
from pexpolicy_console.index.reader import Hit, IndexReader
from pexpolicy_console.pages.decisions import Row, row_of
from pexpolicy_console.pages.page import Page, record, record_view, render
from pexpolicy_console.roles import Role
from pexpolicy_console.template_filters import size


def steps_of(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of a line, one after the other."""
    return [
        {
            "plugin": str(step.get("plugin", "")),
            "outcome": str(step.get("outcome", "")),
            "ms": float(step.get("ms") or 0),
            "detail": _detail(step),
        }
        for step in event.get("steps") or ()
        if isinstance(step, dict)
    ]


def _detail(step: Mapping[str, Any]) -> str:
    parts = [str(step["hook"])] if step.get("hook") else []
    if step.get("detail"):
        parts.append(str(step["detail"]))
    changes = step.get("changes")
    if isinstance(changes, dict):
        known = all(isinstance(change, dict) for change in changes.values())
        parts.append(describe_changes(changes) if known else str(changes))
    if fields := _texts(step.get("fields")):
        parts.append(f"gave {', '.join(fields)}")
    return "; ".join(parts)


def _call_of(reader: IndexReader, decision_id: str) -> tuple[Hit | None, list[Hit]]:
    """Return the line of a decision, and those of the same call."""
    hit = reader.decision(decision_id)
    return hit, [] if hit is None or hit.event is None else reader.same_call(hit)


async def disconnect(request: web.Request) -> web.StreamResponse:
    """End the call of the participant of a decision, and show what became of it."""
    decision_id = request.match_info["decision_id"]
    console = console_of(request)
    try:
        hit = await console.index.ask(lambda reader: reader.decision(decision_id))
    except IndexUnavailable as error:
        raise web.HTTPServiceUnavailable(text=str(error)) from None
    if (participant := _participant(hit)) is None:
        raise web.HTTPNotFound
    record(request, "disconnect", decision_id=decision_id, participant=participant)
    path, user = f"/disconnect/{quote(participant, safe='')}", request[SESSION].user
    found, problem = await console.server.ask(path, author=user)
    return await decision(request, problem if found is None else str(found["result"]))


def _participant(hit: Hit | None) -> str | None:
    parameters = (hit.event or {}).get("request") if hit is not None else None
    found = _texts((parameters or {}).get("participant_uuid"))
    return found[0] if found else None


async def decision(request: web.Request, disconnected: str = "") -> web.StreamResponse:
    """Show one decision."""
    decision_id = request.match_info["decision_id"]
    index = console_of(request).index
    hit: Hit | None = None
    same: list[Hit] = []
    problem = ""
    record_view(request)
    try:
        hit, same = await index.ask(partial(_call_of, decision_id=decision_id))
    except IndexUnavailable as error:
        problem = str(error)
    if hit is None or hit.event is None:
        text = problem or "No line of the audit has this decision id."
        if not problem and index.state.behind_bytes:
            text = f"{text[:-1]} yet: the index is {size(index.state.behind_bytes)} behind."
        return render(request, "error.html", 503 if problem else 404, problem=text)
    event, parameters = hit.event, hit.event.get("request") or {}
    role, status = request[SESSION].role, console_of(request).server.last
    has_commands = status is not None and status.commands and _participant(hit)
    steps = steps_of(event)
    later: list[str] = []
    if status is not None and status.config.policy_hash == event.get("policy_hash"):
        asked = {step["plugin"] for step in steps}
        chain = [one for one in status.plugins if event.get("endpoint") in one.hooks]
        later = [one.name for one in chain if one.mode == "decide" and one.name not in asked]
    return render(
        request,
        "decision.html",
        at=hit.at / 1000,
        event=event,
        rule=rule_of(event.get("reason")),
        parameters=[(name, ", ".join(_texts(value))) for name, value in parameters.items()],
        result=json.dumps(event.get("sent"), indent=2, ensure_ascii=False),
        steps=steps,
        later=later,
        warnings=_texts(event.get("warnings")),
        removed=_texts(event.get("removed")),
        annotations=_annotations(event.get("annotations")),
        row=row_of(hit),
        facts=_facts(parameters),
        headline=_headline(row_of(hit)),
        same=[(row_of(one), one.at - hit.at) for one in same],
        may_try=role >= Role.OPERATOR,
        may_disconnect=role >= Role.ADMIN and has_commands,
        disconnected={
            "done": "The participant was disconnected.",
            "gone": "The participant is not there any more.",
        }.get(disconnected, disconnected),
        line=json.dumps(event, indent=2, ensure_ascii=False),
    )


async def download(request: web.Request) -> web.StreamResponse:
    """Send the lines of the call of a decision, as they were written."""
    decision_id = request.match_info["decision_id"]
    index = console_of(request).index
    record(request, "download call", decision_id=decision_id)
    try:
        hit, same = await index.ask(partial(_call_of, decision_id=decision_id))
    except IndexUnavailable as error:
        raise web.HTTPServiceUnavailable(text=str(error)) from None
    if hit is None or hit.event is None:
        raise web.HTTPNotFound
    lines = {one.id: one.content for one in (*same, hit)}
    content = b"".join(lines[number] + b"\n" for number in sorted(lines))
    name = f'attachment; filename="{hit.event["decision_id"]}.jsonl"'
    headers = {hdrs.CONTENT_TYPE: "application/jsonl", hdrs.CONTENT_DISPOSITION: name}
    return web.Response(body=content, headers=headers)


_FACTS = {
    "Called": ("local_alias", "alias"),
    "Caller": ("remote_alias", "registration_alias"),
    "Name": ("remote_display_name",),
    "From": ("remote_address", "location"),
    "Protocol": ("protocol", "trigger"),
    "Device": ("vendor",),
    "Node": ("node_ip",),
    "Room": ("service_name", "service_tag"),
}
"""What people look for in a request, and the parameters that have it."""


def _facts(parameters: Mapping[str, Any]) -> dict[str, str]:
    found = {
        title: ", ".join(text for name in names for text in _texts(parameters.get(name)))
        for title, names in _FACTS.items()
    }
    return {title: text for title, text in found.items() if text}


def _headline(row: Row) -> str:
    """Return what happened, in a sentence."""
    word = row.outcome.word.capitalize()
    rule = rule_of(row.reason)
    why = row.reason.partition(": ")[2] if rule and ": " in row.reason else row.why
    return f"{word}: {why}" if why else word


def _texts(value: Any) -> list[str]:
    """Return a list of texts; other kinds of values, as in a line that was forged, as one."""
    if isinstance(value, list):
        return [str(one) for one in value]
    return [str(value)] if value else []


def _annotations(value: Any) -> dict[str, dict[str, Any]]:
    """Return the annotations of each plugin; those of another kind under no name."""
    found = value if isinstance(value, dict) else {"": value} if value else {}
    return {name: one if isinstance(one, dict) else {"": one} for name, one in found.items()}


PAGES = (
    Page("/decisions/{decision_id}", decision),
    Page("/decisions/{decision_id}/lines", download, "", Role.OPERATOR),
    Page("/decisions/{decision_id}/disconnect", disconnect, "", Role.ADMIN, hdrs.METH_POST),
)
