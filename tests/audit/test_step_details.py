"""Details of failed steps: no personal value is in them where `[privacy]` hashes or drops those."""

import json
from pathlib import Path

import pytest

from tests.replay import audits
from tests.replay.test_audit_replay import NOON

NAME = 'Anna "O\'Neil" ' + "x" * 245
ALIAS = "sip:anna@example.com"
FAILING = """
from pexpolicy import ParticipantProperties, hookimpl

class Failing:
    @hookimpl
    def participant_properties(self, request):
        if request.protocol == "sip":
            raise LookupError(f"no {request.remote_alias}, {request.remote_alias.raw}, a person")
        if request.protocol == "h323":
            return {"x" * 80: "y" * 300}  # no time is lost on a long name
        return {"remote_display_name": f"{request.remote_display_name} (guest)"}
"""
PRIVACY = {
    "clear": 'personal = "clear"',
    "dropped": 'personal = "dropped"',
    "hashed": 'personal = "hashed"\nkey_env = "KEY"',
}


@pytest.mark.parametrize("privacy", PRIVACY)
def test_a_detail_has_no_personal_value_unless_the_request_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, privacy: str
) -> None:
    monkeypatch.setenv("KEY", "0123456789abcdef")
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "failing.py").write_text(FAILING)
    config = tmp_path / "config.toml"
    config.write_text(
        f'plugin_dirs = ["drop"]\n[privacy]\n{PRIVACY[privacy]}\n[plugins.failing]\n'
        '[plugins.shadow]\nplugin = "failing"\nmode = "shadow"\n'
    )
    pairs = [("remote_alias", ALIAS), ("remote_display_name", NAME)]
    calls: list[audits.Asked] = [
        ("participant_properties", "", [*pairs, ("protocol", protocol)], NOON)
        for protocol in ("sip", "api", "h323")
    ]
    _, lines = audits.answers(config, calls)
    failed, invalid, long = (json.loads(line)["steps"][0]["detail"] for line in lines)
    assert long.startswith("ParticipantProperties.xxx")
    is_clear = privacy == "clear"
    assert ("anna@example.com" in failed) == is_clear
    assert ("Anna" in invalid) == is_clear
    assert "LookupError: no " in failed
    assert "a person" in failed
    assert "ParticipantProperties.remote_display_name = " in invalid
    assert "must be text of at most 250 characters" in invalid
    assert (failed.count("***") == 2) != is_clear
