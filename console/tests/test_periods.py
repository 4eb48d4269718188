"""Times that people type, in the zone of their browser."""

import time
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pexpolicy.cli.explain import parse_at
from pexpolicy_console.index.query import Query
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


@pytest.mark.parametrize("text", ["6:36", "06.36", "6.36", "06:36:00"])
def test_a_clock_is_written_in_any_way(text: str) -> None:
    assert at(text, "Europe/Oslo") == at("06:36", "Europe/Oslo")
    start, end = Query(around=text, zone="Europe/Oslo").period()
    assert start is not None
    assert end is not None
    assert end - start == 600_000
    assert start + 300_000 in {
        int((at("06:36", "Europe/Oslo") - timedelta(days=ago)).timestamp() * 1000) for ago in (0, 1)
    }
    assert start < time.time() * 1000


def test_a_time_of_the_change_to_winter_is_the_first_one() -> None:
    first = datetime.fromisoformat("2026-10-25T00:30Z")
    assert at("2026-10-25 02:30", "Europe/Oslo") == first


def test_other_texts_stay_as_they_are() -> None:
    assert time_of_question("", "Asia/Tokyo") is None
    assert time_of_question("now", "Asia/Tokyo") == "now"
    assert time_of_question("soon", "Asia/Tokyo") == "soon"
    with pytest.raises(ValueError, match="not a time zone"):
        time_of_question("22:00", "Mars/Olympus")
