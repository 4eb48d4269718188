"""`pexpolicy explain` at another time, with notes and annotations."""

import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.cli.test_explain_forms import explained
from tests.cli.test_main import invoked, written
from tests.support import live_server

NIGHT = """
[plugins.rules]
priority = 10
[plugins.rules.settings]
[[plugins.rules.settings.rules]]
name = "Closed at night"
endpoint = "service_configuration"
when.time = { zone = "Europe/Oslo", between = ["20:00", "06:00"] }
then = { action = "reject", reason = "closed" }
[[plugins.rules.settings.rules]]
name = "Closed on Christmas Eve"
endpoint = "service_configuration"
when.time = { zone = "Europe/Oslo", dates = ["2026-12-24"] }
then = "reject"
[plugins.rooms]
priority = 20
[plugins.rooms.settings]
zone = "Europe/Oslo"
[plugins.rooms.settings.rooms.meet07]
name = "Meeting 07"
pin = "481516"
[plugins.rooms.settings.rooms.fair]
name = "Fair"
valid_from = "2026-12-01"
valid_until = "2026-12-02"
"""
NOON = "2026-12-03 14:00 Europe/Oslo"


@pytest.fixture
def config(tmp_path: Path) -> str:
    return written(tmp_path, NIGHT)


@pytest.mark.parametrize(
    ("at", "decided_by"),
    [
        ("2026-12-03 22:00 Europe/Oslo", "rules"),
        ("2026-12-03T22:00+01:00", "rules"),
        ("2026-12-03 21:00Z", "rules"),
        ("2026-12-03 16:00 America/New_York", "rules"),
        (NOON, "rooms"),
        ("2026-12-24 14:00 Europe/Oslo", "rules"),
    ],
)
def test_conditions_are_asked_at_the_time_that_is_given(
    config: str, at: str, decided_by: str
) -> None:
    shown = explained("-c", config, "meet07", "--at", at)
    assert shown["decided_by"] == decided_by


def test_a_time_without_a_zone_is_in_that_of_the_machine(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        for zone, decided_by in (("Europe/Oslo", "rooms"), ("America/New_York", "rules")):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            shown = explained("-c", config, "meet07", "--at", "2026-12-03 19:30")
            assert shown["decided_by"] == decided_by
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_time_of_a_zone_is_the_one_that_its_clocks_show(config: str) -> None:
    shown = explained("-c", config, "meet07", "--at", "2027-03-28 02:30 Europe/Oslo")
    assert shown["at"] == "2027-03-28T03:30:00+02:00"
    before = datetime.now(ZoneInfo("Asia/Tokyo")).date()
    shown = explained("-c", config, "meet07", "--at", "22:00 Asia/Tokyo")
    after = datetime.now(ZoneInfo("Asia/Tokyo")).date()
    assert shown["at"] in {f"{day}T22:00:00+09:00" for day in (before, after)}


def test_a_failed_condition_names_the_window_and_the_time(config: str) -> None:
    shown = invoked("explain", "-c", config, "meet07", "--at", NOON)
    assert "rule 'Closed at night': the time is not 20:00 to 06:00 Europe/Oslo; it is Thursday" in (
        shown.stdout
    )
    assert "not 2026-12-24 Europe/Oslo; it is Thursday 2026-12-03 14:00" in shown.stdout
    assert "  at Thursday 2026-12-03 14:00:00 UTC+01:00" in shown.stdout


def test_a_room_that_does_not_exist_at_the_time_says_when_it_does(config: str) -> None:
    assert explained("-c", config, "fair", "--at", "2026-12-02 14:00+01:00")["decided_by"] == (
        "rooms"
    )
    shown = explained("-c", config, "fair", "--at", NOON)
    assert (shown["decided_by"], shown["reason"]) == ("rooms", "ended")
    assert shown["notes"][-1] == (
        "the room Fair is valid from 2026-12-01 until 2026-12-02; it is 2026-12-03 14:00 CET"
    )


def test_the_time_of_a_record_is_the_default(config: str) -> None:
    line = (
        '10.0.0.1 - - [24/Dec/2026:14:00:00 +0100] "GET '
        '/policy/v1/service/configuration?local_alias=meet07 HTTP/1.1" 200 4'
    )
    assert explained("-c", config, line)["decided_by"] == "rules"
    assert explained("-c", config, line, "--at", NOON)["decided_by"] == "rooms"
    assert explained("-c", config, line, "--at", "now")["at"] is None


@pytest.mark.parametrize(
    "at",
    [
        "22:00 Oslo",
        "25:00 Europe/Oslo",
        "tomorrow",
        "2026-13-01 10:00",
        "25:00",
        "2026-12-03 10:00 Oslo",
    ],
)
def test_what_is_no_time_is_refused_with_an_example(config: str, at: str) -> None:
    shown = invoked("explain", "-c", config, "meet07", "--at", at)
    assert shown.exit_code == 2
    assert "2026-12-24 22:00" in shown.stderr


ANNOTATING = """
import pexpolicy

class Late:
    @pexpolicy.hookimpl
    async def service_configuration(self, request):
        request.annotate(**{f'n{i}': i for i in range(17)})
"""


def test_annotations_that_are_left_out_are_named(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "late.py").write_text(ANNOTATING)
    config = written(tmp_path, 'plugin_dirs = ["drop"]\n[plugins.late]\n')
    assert "not shown: annotations.late" in invoked("explain", "-c", config, "meet07").stdout
    assert explained("-c", config, "meet07")["removed"] == ["annotations.late"]


CASES = """
[[case]]
name = "closed at night"
endpoint = "service_configuration"
request.local_alias = "meet07"
at = "2026-12-03 22:00 Europe/Oslo"
expect = { action = "reject", reason = "rule Closed at night: closed" }
[[case]]
name = "open by day"
endpoint = "service_configuration"
request.local_alias = "meet07"
at = 2026-12-03T14:00:00+01:00
expect.decided_by = "rooms"
[[case]]
name = "a log line"
url = "/policy/v1/service/configuration?local_alias=meet07"
at = "2026-12-24T14:00:00+01:00"
expect.action = "reject"
[[case]]
name = "the fair is over"
endpoint = "service_configuration"
request.local_alias = "fair"
at = "2026-12-03 14:00 UTC"
expect.action = "reject"
expect.decided_by = "rooms"
"""


def test_a_case_has_a_time(tmp_path: Path, config: str) -> None:
    cases = tmp_path / "cases.toml"
    cases.write_text(CASES)
    ran = invoked("test", "-c", config, str(cases))
    assert ran.exit_code == 0, ran.output
    cases.write_text(CASES.replace("22:00", "10:00"))
    assert invoked("test", "-c", config, str(cases)).exit_code == 1


@pytest.mark.parametrize("at", ['"2026-12-03 22:00"', "2026-12-03T22:00:00", '"night"', "7"])
def test_a_case_needs_a_time_that_is_the_same_everywhere(tmp_path: Path, at: str) -> None:
    cases = tmp_path / "cases.toml"
    cases.write_text(f'[[case]]\nname = "x"\nurl = "/"\nat = {at}\n')
    ran = invoked("test", "-c", str(live_server.SHIPPED), str(cases))
    assert ran.exit_code == 2
    assert "case 1 ('x'), at" in ran.stderr


def test_a_plugin_in_a_process_of_its_own_is_named_as_it_has_the_present_time(
    tmp_path: Path,
) -> None:
    isolated = NIGHT.replace("priority = 10", 'priority = 10\nisolation = "process"')
    config = written(tmp_path, isolated)
    note = "rules runs in processes of its own, which have the present time"
    assert note in explained("-c", config, "lobby", "--at", NOON)["notes"]
    assert note not in explained("-c", config, "lobby")["notes"]
