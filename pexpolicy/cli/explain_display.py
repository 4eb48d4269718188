"""Explanations as JSON, and the same on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text

from pexpolicy.audit.redaction import Redaction, redact_annotations, redact_changes
from pexpolicy.cli.text import Cell, print_lines, print_table, screen
from pexpolicy.endpoints.base import JSON
from pexpolicy.explain.explanation import Explanation, without_secrets
from pexpolicy.explain.request_forms import RecordedRequest
from pexpolicy.models.difference import describe_changes
from pexpolicy.models.outcome import DECIDED, DEFAULT, AdjustedStep, Outcome, Step
from pexpolicy.text import printable

STYLES = {"decided": "green", "adjusted": "green", "abstained": "dim"}
"""The colours of outcomes; others are red."""


def as_json(
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
    body, removed = (reply.body, []) if show_secrets else without_secrets(explained)
    annotations, left_out = redact_annotations(outcome.request, Redaction())
    return {
        "endpoint": explained.endpoint,
        "form": request.form,
        "at": None if moment is None else moment.isoformat(),
        "request": facts,
        "not_shown": withheld,
        "remarks": remarks,
        "config": str(config),
        "path_problem": explained.path_problem or None,
        "steps": [_step(explained, step, show_secrets=show_secrets) for step in outcome.steps],
        "decided_by": outcome.decided_by,
        "action": outcome.decision.action,
        "reason": outcome.decision.reason,
        "not_asked": [
            {
                **_step(explained, step, show_secrets=show_secrets),
                "would": _would_decide(rest, show_secrets=show_secrets) or None,
            }
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
        "local_policy": _local_policy(explained, show_secrets=show_secrets),
    }


def _local_policy(explained: Explanation, *, show_secrets: bool) -> dict[str, Any] | None:
    """Return what the script of the node makes of the reply."""
    after = explained.local_policy
    if after is None:
        return None
    written: dict[str, Any] = {
        "script": after.script,
        "applied": after.is_applied,
        "verdict": after.verdict,
        "changed": list(after.changed),
        "notes": list(after.notes),
    }
    if after.decision is not None:
        masked = _masked(explained.endpoint, after.decision, show_secrets=show_secrets)
        written |= {"action": masked.pop("action"), "result": masked}
    return written


def _masked(endpoint: str, decision: Any, *, show_secrets: bool) -> dict[str, Any]:
    masked = None if show_secrets else Redaction().masked_fields(endpoint, decision)
    return {**decision.facts(), **(masked or {})}


def _step(explained: Explanation, step: Step, *, show_secrets: bool) -> dict[str, Any]:
    written: dict[str, Any] = {"plugin": step.plugin, "outcome": step.outcome, "ms": step.ms}
    if step.hook:
        written["hook"] = step.hook
    if step.detail:
        written["detail"] = step.detail
    if step.fields:
        written["fields"] = list(step.fields)
    if isinstance(step, AdjustedStep):
        redaction = None if show_secrets else Redaction()
        written["changes"] = redact_changes(explained.endpoint, step, redaction)
    return written


def _would_decide(outcome: Outcome, *, show_secrets: bool) -> str:
    """Return the decision of a plugin that was asked alone; empty if it decided nothing."""
    if outcome.decided_by == DEFAULT:
        return ""
    facts = _masked(outcome.endpoint, outcome.decision, show_secrets=show_secrets)
    action, reason = facts.pop("action"), facts.pop("reason", None)
    parts = [
        reason,
        *(
            f"{name} = {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
            for name, value in facts.items()
            if value != ""
        ),
    ]
    return f"{action}: {', '.join(filter(None, parts))}".removesuffix(": ")


def show(
    shown: dict[str, Any],
    request: RecordedRequest,
    moment: datetime | None,
    explained: Explanation,
    *,
    show_secrets: bool,
) -> None:
    """Print what ``as_json`` returned; elsewhere than on a terminal the reply is not indented."""
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
