"""Times that people type, in the zone of their browser."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from pexpolicy.cli.explain import parse_at
from pexpolicy_console.periods import time_of_question


def at(text: str, zone: str) -> datetime:
    """The time that the policy on the disk is asked for."""
    found = parse_at(time_of_question(text, zone), None)
    assert found is not None
    return found


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", ""])
def test_a_time_without_a_zone_is_of_the_browser(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = ZoneInfo(zone or "UTC")
    wanted = datetime(2026, 12, 24, 22, tzinfo=known)
    assert at("2026-12-24 22:00", zone) == at("2026-12-24T22:00:00", zone) == wanted
    today = datetime.now(known).replace(hour=22, minute=0, second=0, microsecond=0)
    assert at("22:00", zone).astimezone(known).time() == today.time()
    oslo = ZoneInfo("Europe/Oslo")
    assert at("22:00 Europe/Oslo", zone).astimezone(oslo).hour == 22
    assert at("2026-12-24 22:00+05:00", zone) == datetime.fromisoformat("2026-12-24T17:00Z")


def test_a_time_of_the_change_to_winter_is_the_first_one() -> None:
    first = datetime.fromisoformat("2026-10-25T00:30Z")
    assert at("2026-10-25 02:30", "Europe/Oslo") == first


def test_other_texts_stay_as_they_are() -> None:
    assert time_of_question("", "Asia/Tokyo") is None
    assert time_of_question("now", "Asia/Tokyo") == "now"
    assert time_of_question("soon", "Asia/Tokyo") == "soon"
    with pytest.raises(ValueError, match="not a time zone"):
        time_of_question("22:00", "Mars/Olympus")
