"""Audit lines on a terminal."""

import os
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.audit.console import Terminal, parts, render
from pexpolicy.audit.hash_chain import HashChain
from pexpolicy.audit.records import as_json
from pexpolicy.text import printable
from tests.audit.places import chained

LINE: dict[str, Any] = {
    "timestamp": datetime.now(UTC),
    "event": "decision",
    "decision_id": "id",
    "endpoint": "service_configuration",
    "peer": "127.0.0.1",
    "request": {"local_alias": "engineering", "remote_alias": "alice"},
    "steps": [],
    "decided_by": "rooms",
    "reason": "it is known",
    "action": "continue",
    "status": 200,
    "sent": None,
    "ms": 0.25,
    "policy_hash": "0",
}


def step(plugin: str, outcome: str, **further: str) -> dict[str, Any]:
    return {"plugin": plugin, "outcome": outcome, "ms": 0.1, **further}


def rendered(**other: Any) -> str:
    return render({**LINE, **other}).decode()


@pytest.mark.parametrize(("value", "coloured"), [("", True), ("1", False)])
def test_no_color_is_honoured(
    monkeypatch: pytest.MonkeyPatch, value: str, *, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", value)
    assert ("\033" in rendered()) is coloured
    assert "engineering" in rendered()


def test_a_call_is_one_line_with_what_matters() -> None:
    text = rendered()
    assert text.count("\n") == 1
    for part in ("service_configuration", "engineering", "alice", "continue", "rooms", "0.2 ms"):
        assert part in text
    assert "it is known" in text


def formatted(event: dict[str, Any]) -> str:
    return " ".join(text for _, text in parts(event))


def test_an_error_is_distinguished_from_the_reason() -> None:
    steps = [step("bad", "failed", detail="it ended"), step("late", "timed_out")]
    text = formatted(LINE | {"steps": steps, "warnings": ["a doubt"]})
    assert text.endswith("it is known | bad failed: it ended | late timed_out | a doubt")


def test_a_refused_call_is_one_line() -> None:
    line = {"event": "refused", "status": 404, "reason": "unknown path", "peer": "192.0.2.7"}
    text = render(line | {"path": "/wrong"}).decode()
    assert text.count("\n") == 1
    for part in ("status=404", "unknown path", "path=/wrong", "peer=192.0.2.7"):
        assert part in text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"differs": False}, "shadow, would continue by new"),
        ({"differs": True, "action": "reject"}, "differs, would reject by new"),
        (
            {"differs": None, "steps": [step("new", "failed", detail="ValueError: x")]},
            "new failed: ValueError: x",
        ),
    ],
)
def test_what_a_shadow_would_have_decided_is_said(line: dict[str, Any], expected: str) -> None:
    event: dict[str, Any] = {"event": "shadow", "endpoint": "media_location"}
    event |= {"steps": [step("new", "decided")], "decided_by": "new", "reason": None}
    event["action"] = "continue"
    text = formatted({**event, **line})
    assert text.startswith("media_location")
    assert expected in text


def test_a_line_of_a_file_may_hold_anything() -> None:
    values: list[Any] = ["text", 5, None, ["text"], {"plugin": []}]
    for wrong in values:
        for kind in ("decision", "shadow", "refused", "checkpoint", "other"):
            assert parts(dict.fromkeys(LINE, wrong) | {"event": kind})


@given(st.text())
def test_a_caller_cannot_command_the_terminal(text: str) -> None:
    text_rendered = rendered(request={"local_alias": text, "remote_alias": text}, reason=text)
    assert text_rendered.count("\n") == 1
    assert "\x1b[2J" not in rendered(request={"local_alias": "\x1b[2J" + text})


@pytest.mark.parametrize("text", ["\x1b[31m", "a\nb", "\x07", "\u202e", "\x9b", "\x00"])
def test_control_characters_are_replaced(text: str) -> None:
    assert printable(text).isprintable()


def test_a_terminal_gets_text_in_place_of_chained_lines() -> None:
    reader, writer = os.pipe()
    chain = HashChain("north")
    Terminal(writer).write(chained(chain, as_json(LINE), as_json(LINE)) + b" \n")
    shown = os.read(reader, 1 << 16).decode()
    assert (shown.count("engineering"), shown.count("\n"), "hash" in shown) == (2, 2, False)
    for descriptor in (reader, writer):
        os.close(descriptor)
