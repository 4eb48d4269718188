"""The page of one decision: the request, each step, the reply, and the rest of the call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from aiohttp import hdrs, web

from pexpolicy.models.difference import describe_changes
from pexpolicy_console.context import Page, PageError, Response, Visit, attachment
from pexpolicy_console.index.lines import Event, rule_of
from pexpolicy_console.index.reader import Hit, IndexReader
from pexpolicy_console.login.sessions import Role
from pexpolicy_console.pages.decisions import Row
from pexpolicy_console.template_filters import size


def steps_of(event: Event) -> list[dict[str, Any]]:
    """Return the steps of a line, one after the other."""
    steps = (step for step in event.get("steps") or () if isinstance(step, dict))
    return [
        {
            **{name: str(step.get(name, "")) for name in ("plugin", "outcome")},
            "ms": float(step.get("ms") or 0),
            "detail": "; ".join(_details(step)),
        }
        for step in steps
    ]


def _details(step: Event) -> Iterator[str]:
    yield from (str(step[name]) for name in ("hook", "detail") if step.get(name))
    if isinstance(changes := step.get("changes"), dict):
        known = all(isinstance(change, dict) for change in changes.values())
        yield describe_changes(changes) if known else str(changes)
    if fields := _texts(step.get("fields")):
        yield f"gave {', '.join(fields)}"


def _call_of(reader: IndexReader, decision_id: str) -> tuple[Hit | None, list[Hit]]:
    """Return the line of a decision, and those of the same call."""
    hit = reader.decision(decision_id)
    return hit, [] if hit is None else reader.same_call(hit)


async def _found(visit: Visit) -> tuple[Hit, Event, list[Hit]]:
    """Return a line, its JSON, and the lines of the same call; raise ``PageError``."""
    found = await visit.search(_call_of, visit.request.match_info["decision_id"])
    if found is None:
        raise PageError(visit.problems[0], 503)
    hit, same = found
    if hit is None or hit.event is None:
        behind = visit.console.index.state.behind_bytes
        yet = f" yet: the index is {size(behind)} behind" if behind else ""
        raise PageError(f"No line of the audit has this decision id{yet}.", 404)
    return hit, hit.event, same


async def disconnect(visit: Visit) -> Response:
    """End the call of the participant of a decision, and show what became of it."""
    _, event, _ = await _found(visit)
    if (participant := _participant(event)) is None:
        raise web.HTTPNotFound
    visit.record("disconnect", decision_id=event["decision_id"], participant=participant)
    path, user = f"/disconnect/{quote(participant, safe='')}", visit.session.user
    found = await visit.ask_server(path, author=user)
    return await decision(visit, str(found["result"]) if found else "")


def _participant(event: Event) -> str | None:
    found = _texts((event.get("request") or {}).get("participant_uuid"))
    return found[0] if found else None


async def decision(visit: Visit, disconnected: str = "") -> Response:
    """Show one decision."""
    visit.record_view()
    hit, event, same = await _found(visit)
    row, steps, parameters = Row(hit), steps_of(event), event.get("request") or {}
    status, later = visit.console.server.last, list[str]()
    if status is not None and status.config.policy_hash == event.get("policy_hash"):
        asked = {step["plugin"] for step in steps}
        chain = [one for one in status.plugins if event.get("endpoint") in one.hooks]
        later = [one.name for one in chain if one.mode == "decide" and one.name not in asked]
    return visit.render(
        "decision.html",
        event=event,
        rule=rule_of(row.reason),
        parameters={name: ", ".join(_texts(value)) for name, value in parameters.items()},
        steps=steps,
        later=later,
        warnings=_texts(event.get("warnings")) + _texts(event.get("redaction_error")),
        removed=_texts(event.get("removed")),
        annotations=_annotations(event.get("annotations")),
        row=row,
        same=[(Row(one), one.at - hit.at) for one in same],
        has_commands=status is not None and status.commands and _participant(event),
        disconnected=disconnected,
    )


async def download(visit: Visit) -> Response:
    """Send the lines of the call of a decision, as they were written."""
    visit.record("download call", decision_id=visit.request.match_info["decision_id"])
    hit, event, same = await _found(visit)
    lines = {one.id: one.content for one in (*same, hit)}
    content = b"".join(lines[number] + b"\n" for number in sorted(lines))
    return attachment(content, f"{event['decision_id']}.jsonl", "application/jsonl")


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
