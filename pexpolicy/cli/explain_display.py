"""Explanations as text for a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from pexpolicy.audit.redaction import Redaction, redact_annotations, redact_changes
from pexpolicy.cli.folding import print_folded
from pexpolicy.endpoints.base import JSON
from pexpolicy.explain.explanation import Explanation, without_secrets
from pexpolicy.explain.request_forms import RecordedRequest
from pexpolicy.models.difference import Changes, add_change, describe_changes
from pexpolicy.models.outcome import DECIDED, DEFAULT, AdjustedStep, Outcome, Step
from pexpolicy.text import printable

STYLES = {"decided": "green", "adjusted": "green", "abstained": "dim"}
"""The colours of outcomes; others are red."""
SAME = "both configurations answer the same"
Walks = Sequence[tuple[Path, Explanation]]
"""Each configuration with its explanation."""


def as_json(
    request: RecordedRequest,
    moment: datetime | None,
    remarks: list[str],
    walks: Walks,
    *,
    show_secrets: bool,
) -> dict[str, Any]:
    """Return what ``Display`` shows, for programs."""
    (config, explained), *others = walks
    facts, withheld = Redaction().request(explained.endpoint, explained.url.query, explained.alias)
    shown: dict[str, Any] = {
        "endpoint": explained.endpoint,
        "form": request.form,
        "at": None if moment is None else moment.isoformat(),
        "request": facts,
        "not_shown": withheld,
        "remarks": remarks,
        "config": str(config),
        **_walk(explained, show_secrets=show_secrets),
    }
    for path, other in others:
        shown["against"] = {"config": str(path), **_walk(other, show_secrets=show_secrets)}
        shown["differences"] = differences(explained, other, show_secrets=show_secrets)
    return shown


def _walk(explained: Explanation, *, show_secrets: bool) -> dict[str, Any]:
    outcome, reply = explained.answer.outcome, explained.answer.reply
    body, removed = (reply.body, []) if show_secrets else without_secrets(explained)
    annotations, left_out = redact_annotations(outcome.request, Redaction())
    return {
        "path_problem": explained.path_problem or None,
        "steps": [_step(explained, step, show_secrets=show_secrets) for step in outcome.steps],
        "decided_by": outcome.decided_by,
        "action": outcome.decision.action,
        "reason": outcome.decision.reason,
        "not_asked": [
            {
                **_step(explained, step, show_secrets=show_secrets),
                "would": would_decide(rest, show_secrets=show_secrets) or None,
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
        redaction = None if show_secrets else Redaction()
        masked = redaction.masked_fields(explained.endpoint, after.decision) if redaction else {}
        facts = {**after.decision.facts(), **(masked or {})}
        written["action"] = facts.pop("action")
        written["result"] = facts
    return written


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


def differences(one: Explanation, other: Explanation, *, show_secrets: bool) -> Changes:
    """Return what differs between two answers: each field, ``from`` what ``to`` what."""
    before, after = one.answer, other.answer
    both = AdjustedStep("", "", 0.0, before=before.outcome.decision, after=after.outcome.decision)
    redaction = None if show_secrets else Redaction()
    changes = redact_changes(one.endpoint, both, redaction)
    add_change(changes, "decided_by", before.outcome.decided_by, after.outcome.decided_by)
    add_change(changes, "status", before.reply.status, after.reply.status)
    return changes


def would_decide(outcome: Outcome, *, show_secrets: bool) -> str:
    """Return the decision of a plugin that was asked alone; empty if it decided nothing."""
    if outcome.decided_by == DEFAULT:
        return ""
    masked = None if show_secrets else Redaction().masked_fields(outcome.endpoint, outcome.decision)
    facts = {**outcome.decision.facts(), **(masked or {})}
    action, reason = facts.pop("action"), facts.pop("reason", None)
    parts = [reason, *(f"{name} = {_text(value)}" for name, value in facts.items() if value != "")]
    return f"{action}: {', '.join(filter(None, parts))}".removesuffix(": ")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class Display:
    """Explanations on standard output."""

    def __init__(self, *, show_secrets: bool) -> None:
        # The caller, plugins and their errors choose some of the text, so none of it is markup.
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._show_secrets = show_secrets

    def show(
        self,
        request: RecordedRequest,
        moment: datetime | None,
        remarks: list[str],
        walks: Walks,
    ) -> None:
        """Print the request, each step and reply, and what differs between two replies."""
        first = walks[0][1]
        self._show_request(request, first)
        if moment is not None:
            by = "" if moment != request.at else f", the time of the {request.form}"
            self._line(f"  at {moment:%A %Y-%m-%d %H:%M:%S %Z}{by}", "cyan")
        for remark in remarks:
            self._line(f"note: {remark}", "yellow")
        for path, explained in walks:
            self._console.print()
            if len(walks) > 1:
                self._line(str(path), "bold cyan")
            self._show_walk(explained)
        for _, other in walks[1:]:
            self._console.print()
            changes = differences(first, other, show_secrets=self._show_secrets)
            self._line("differences" if changes else SAME, "bold")
            for name, change in changes.items():
                self._line(f"  {describe_changes({name: change})}", "yellow")

    def _line(self, text: str, style: str = "") -> None:
        print_folded(self._console, Text(printable(text), style=style))

    def _show_request(self, request: RecordedRequest, explained: Explanation) -> None:
        title = Text(explained.endpoint, style="bold cyan")
        self._console.print(title, Text(printable(explained.alias)))
        facts, withheld = Redaction().request(explained.endpoint, explained.url.query, "")
        for name in sorted(facts, key=lambda name: name not in request.given):
            style = "" if name in request.given else "dim"
            self._line(f"  {name} = {facts[name]}", style)
        for name in withheld:
            self._line(f"  {name} = (not shown)", "dim")

    def _show_walk(self, explained: Explanation) -> None:
        outcome = explained.answer.outcome
        if explained.path_problem:
            self._line(explained.path_problem, "bold red")
        self._console.print(self._steps(explained))
        for rest in explained.rest:
            for step in rest.steps:
                parts = (step.detail, would_decide(rest, show_secrets=self._show_secrets))
                said = "; ".join(filter(None, parts))
                self._line(f"asked as well: {step.plugin} {step.outcome}{': ' * bool(said)}{said}")
        annotations, removed = redact_annotations(outcome.request, Redaction())
        for name in removed:
            self._line(f"left out: {name}", "dim")
        for plugin, values in annotations.items():
            for name, value in values.items():
                self._line(f"annotation: {plugin}.{name} = {value}", "dim")
        for note in explained.notes:
            self._line(f"note: {note}", "dim")
        for warning in outcome.decision.warnings:
            self._line(f"warning: {warning}", "yellow")
        self._console.print()
        self._show_reply(explained)
        self._show_local_policy(explained)

    def _steps(self, explained: Explanation) -> Table:
        outcome = explained.answer.outcome
        table = Table("asked", "outcome", "ms", "", box=None, header_style="bold")
        for step in outcome.steps:
            self._add_step(table, explained, step)
        if outcome.decided_by == DEFAULT:
            table.add_row(DEFAULT, Text(DECIDED, style="green"), "", "no plugin decided")
        return table

    def _add_step(self, table: Table, explained: Explanation, step: Step) -> None:
        asked = f"{step.plugin} (adjusts)" if step.hook else step.plugin
        text = Text(step.outcome, style=STYLES.get(step.outcome, "red"))
        table.add_row(asked, text, f"{step.ms:.2f}", printable(self._detail(explained, step)))

    def _detail(self, explained: Explanation, step: Step) -> str:
        """Return the error of a step, what it changed, or the fields that it gave."""
        if isinstance(step, AdjustedStep):
            redaction = None if self._show_secrets else Redaction()
            return describe_changes(redact_changes(explained.endpoint, step, redaction))
        return step.detail or ", ".join(step.fields)

    def _show_reply(self, explained: Explanation) -> None:
        reply = explained.answer.reply
        self._line(f"HTTP {reply.status} {reply.content_type}", "bold")
        if reply.content_type != JSON:
            self._line(f"({len(reply.body)} bytes)")
            return
        body, removed = (reply.body, []) if self._show_secrets else without_secrets(explained)
        self._show_body(body)
        if removed:
            names = ", ".join(removed)
            self._line(f"not shown: {names}; --show-secrets prints the complete reply", "dim")

    def _show_body(self, body: bytes) -> None:
        console = self._console
        if console.is_terminal:
            console.print(JSONHighlighter()(_indented(body)), soft_wrap=True)
        else:
            # Not by the console, which would change it.
            console.file.write(body.decode() + "\n")

    def _show_local_policy(self, explained: Explanation) -> None:
        """Print what the script of the node makes of the reply."""
        after = _local_policy(explained, show_secrets=self._show_secrets)
        if after is None:
            return
        self._console.print()
        self._line(f"local policy {after['script']}", "bold")
        for note in after["notes"]:
            self._line(f"note: {note}", "dim")
        self._line(after["verdict"], "green" if after["applied"] else "red")
        if "action" in after:
            shown = {"action": after["action"], "result": after["result"]}
            self._show_body(json.dumps(shown, ensure_ascii=False).encode())


def _indented(body: bytes) -> str:
    text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    return "\n".join(map(printable, text.splitlines()))
