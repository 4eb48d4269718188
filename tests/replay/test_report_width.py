"""The report of a replay on a terminal of 80 columns."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from tests.support import wire
from tests.support.local_policy import PASS

LONG = "a-name-of-a-room-that-somebody-has-made-longer-than-any-name-should-be"
CONFIG = f"""
[plugins.rules]
priority = 10
[[plugins.rules.settings.rules]]
name = "A rule whose name goes on for so long that it is wider than the terminal of most people"
endpoint = ["service_configuration", "participant_properties"]
when.any = [{{ vendor = "Cisco" }}, {{ protocol = "sip" }}, {{ third_party_passcode = "1" }}]
then = {{ action = "reject", reason = "closed for reasons that take some more room to be told" }}
[plugins.rooms.settings.rooms]
"{LONG}" = {{ name = "Lobby {LONG}", service_tag = "", description = "with a description" }}
[plugins.locations.settings]
default = "Oslo"
"""
RECORDS = (
    f"{wire.SERVICE}?local_alias={LONG}",
    f"{wire.SERVICE}?local_alias={LONG}&vendor=Cisco",
    f"{wire.SERVICE}?local_alias=x&protocol=sip",
    "/policy/v1/participant/location?remote_address=10.1.2.3",
    "/policy/v1/participant/properties?protocol=sip",
    "/policy/v1/registrations/bob",
    "/policy/v1/participant/avatar/bob",
    "/policy/v1/registrations?q=x",
    "/policy/v1/something/else",
    "no record at all, but a line with many words that says nothing about any call",
)


def shown(command: list[str], columns: int) -> str:
    env = {"COLUMNS": str(columns)}
    return CliRunner().invoke(main, command, env=env, catch_exceptions=False).stdout


def words(text: str) -> set[str]:
    """Return the words without the replies of plugins and the times that they took."""
    return {word for word in text.split() if not re.search(r"[{\d]", word)}


def test_no_word_is_broken_and_no_line_is_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("next.toml").write_text(CONFIG)
    old = (
        CONFIG.replace("Lobby", "Entrance").replace('"Cisco"', '"Other"').replace("Oslo", "Bergen")
    )
    Path("config.toml").write_text(old)
    Path("script.jinja2").write_text(PASS)
    Path("records").write_text("\n".join(RECORDS * 3) + "\n")
    command = ["replay", "records", "-c", "next.toml", "--against", "config.toml"]
    command += ["--report", "page.html", "--local-policy", "script.jinja2"]
    narrow, wide = (shown(command, columns) for columns in (80, 400))
    assert [line for line in narrow.splitlines() if len(line) > 80 and "{" not in line] == []
    assert words(narrow) == words(wide)
