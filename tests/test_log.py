"""The log on standard error."""

import json
import sys
import unicodedata
from io import StringIO

import pytest

from pexpolicy.log import console_log


def test_no_control_character_or_mark_of_direction_is_in_the_json_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "".join(map(chr, range(0x2100)))
    stderr = StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    console_log().warning("plugin failed", detail=text)
    (line,) = stderr.getvalue().splitlines()
    assert json.loads(line)["detail"] == text
    assert not [c for c in line if unicodedata.category(c) in ("Cc", "Zl", "Zp")]
    marks = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    assert not [c for c in line if unicodedata.bidirectional(c) in marks]
