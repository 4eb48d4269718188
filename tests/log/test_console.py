"""The log on standard error, on a terminal and elsewhere."""

import io
import json
import re
import sys
import unicodedata

import pytest

from pexpolicy.log import ServerLog, plain_values


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_traceback_on_a_terminal_has_lines_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    ServerLog().warning("plugin failed", rooms=["a\x1b"], traceback="x.py:1\n    raise X")
    text = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert re.match(r"\d\d:\d\d:\d\d \[", text)
    assert "\x1b" not in text
    assert text.endswith("\nx.py:1\n    raise X\n")


def test_a_terminal_gets_no_colours_where_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    ServerLog().warning("plugin failed", plugin="rooms")
    assert "\x1b" in terminal.getvalue()
    coloured = len(terminal.getvalue())
    monkeypatch.setenv("NO_COLOR", "1")
    ServerLog().warning("plugin failed", plugin="rooms")
    assert "\x1b" not in terminal.getvalue()[coloured:]
    assert "plugin failed" in terminal.getvalue()[coloured:]


def test_no_control_character_or_mark_of_direction_is_in_the_json_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "".join(map(chr, range(0x2100)))
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    ServerLog().warning("plugin failed", detail=text)
    (line,) = stderr.getvalue().splitlines()
    assert json.loads(line)["detail"] == text
    assert not [c for c in line if unicodedata.category(c) in ("Cc", "Zl", "Zp")]
    marks = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    assert not [c for c in line if unicodedata.bidirectional(c) in marks]


def test_text_of_a_plugin_does_not_command_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fields = {"room": "a\x1b]0;title\x07", "traceback": "x.py:1\n\x1b[2J", "stack": "a\nb\x1b[2J"}
    ServerLog().write(20, "b\x1b[2J\nc", "vip", fields)
    text = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\na\nb" in text
    assert "\nx.py:1\n" in text


def test_a_terminal_shows_the_error_after_the_event() -> None:
    event = {"event": "plugin failed", "plugin": "p", "error": "Down: it's away\x1b"}
    shown = plain_values(event)
    assert shown == {
        "event": "plugin failed: Down: it's away\N{REPLACEMENT CHARACTER}",
        "plugin": "p",
    }
    assert plain_values({"event": "x", "error": ""}) == {"event": "x"}
