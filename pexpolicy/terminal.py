"""Audit lines for the eyes of somebody who watches a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

import msgspec

RESET, DIM, BOLD = "\033[0m", "\033[2m", "\033[1m"
RED, GREEN, YELLOW, CYAN = "\033[31m", "\033[32m", "\033[33m", "\033[36m"
COLOURS = {"reject": RED, "continue": GREEN, "redirect": YELLOW}
FAULTS = ("failed", "timed_out", "invalid", "busy", "skipped")


def readable(_: Any, __: str, line: Any) -> bytes:
    """One short line in colours: when, what, whom it was about, what came of it and who decided."""
    event = msgspec.structs.asdict(line) if isinstance(line, msgspec.Struct) else line
    now = datetime.now().astimezone().strftime("%H:%M:%S")
    if event["event"] == "refused":
        text = f"{RED}{event['status']}{RESET} {printable(event['reason'])} from {event['peer']}"
        return f"{DIM}{now}{RESET} {text}\n".encode()
    if event["event"] == "shadow":
        verdict = f"{YELLOW}differs{RESET}" if event["differs"] else "agrees"
        if event["differs"] is None:
            details = "; ".join(printable(step.detail) for step in event["steps"])
            verdict = f"{RED}{details}{RESET}"
        asked = ", ".join(f"{step.plugin} {step.outcome}" for step in event["steps"])
        return f"{DIM}{now} {event['endpoint']:<22} shadow: {asked}: {RESET}{verdict}\n".encode()
    action = f"{COLOURS.get(event['action'], '')}{event['action']}{RESET}"
    if event["status"] != HTTPStatus.OK:
        action = f"{YELLOW}{event['status']}{RESET}"
    parts = [
        f"{DIM}{now}{RESET}",
        f"{CYAN}{event['endpoint']:<22}{RESET}",
        f"{BOLD}{printable(_subject(event['request']))}{RESET}",
        action,
        f"by {event['decided_by']}",
        f"{DIM}{event['ms']:.1f} ms{RESET}",
    ]
    if event["reason"]:
        parts.append(printable(event["reason"]))
    parts += [
        f"{RED}{step.plugin} {step.outcome}: {printable(step.detail)}{RESET}"
        for step in event["steps"]
        if step.outcome in FAULTS
    ]
    parts += [f"{YELLOW}{printable(warning)}{RESET}" for warning in event.get("warnings", ())]
    return (" ".join(parts) + "\n").encode("utf-8", "replace")


def _subject(request: Mapping[str, Any]) -> str:
    about = request.get("alias") or request.get("local_alias") or request.get("q") or "-"
    caller = request.get("remote_alias") or request.get("registration_alias")
    return f"{about} ← {caller}" if caller else str(about)


def printable(text: object) -> str:
    """Text without control characters: a caller chooses it, and must not command the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
