"""What a reload says of the rooms that changed."""

from typing import Any

import pytest

from pexpolicy_rooms.plugin import Rooms
from pexpolicy_rooms.settings import Settings


def made(rooms: dict[str, Any]) -> Rooms:
    return Rooms(Settings(rooms=rooms, zone="Europe/Oslo"))


A = {"a@example.com": {"name": "A"}}
B = {"b@example.com": {"name": "B", "pin": "123456"}}


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({**A, **B}, {**A, **B}, []),
        ({**A, **B}, {**B, "sip:A@example.com": {"name": "A"}}, []),
        (A, {**A, **B}, ["added B"]),
        ({**A, **B}, A, ["removed B"]),
        ({**A, **B}, {**A, "b@example.com": {"name": "B", "pin": "654321"}}, ["changed B"]),
        (A, {"a@example.com": {"name": "A", "aliases": ["2301"]}}, ["changed A"]),
        ({"a@example.com": {"name": "A", "aliases": ["2301"]}}, A, ["changed A"]),
        (A, {"x@example.com": {"name": "A"}}, ["changed A"]),
        (A, {"a@example.com": {"name": "C"}}, ["added C", "removed A"]),
        (A, {"a@example.com": {"name": "A", "valid_from": "2026-12-24"}}, ["changed A"]),
        (
            {},
            {f"a{n:02}": {"name": f"A{n:02}"} for n in range(12)},
            ["added A00, A01, A02, A03, A04, A05, A06, A07, A08, A09 and 2 more"],
        ),
    ],
)
def test_changed_rooms_are_named(
    before: dict[str, Any], after: dict[str, Any], changes: list[str]
) -> None:
    assert list(made(after).changes_since(made(before))) == changes
