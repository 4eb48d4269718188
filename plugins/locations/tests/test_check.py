"""What `pexpolicy check` says of entries that are valid."""

from collections.abc import Callable
from typing import Any

import pytest

A, B = ("10.1.0.0/16", "Oslo"), ("10.2.0.0/16", "Bergen")


@pytest.mark.parametrize(
    ("entries", "more", "keys"),
    [
        ([A, B], {}, []),
        ([("10.1.2.3/16", "Oslo")], {}, ["subnets[0].subnet"]),
        ([A, ("10.2.0.0/16", "oslo  ")], {}, ["subnets[1].location"]),
        # The longer prefix decides, which is nothing to warn of.
        ([("10.1.2.0/24", "Oslo"), ("10.0.0.0/8", "A"), ("10.1.0.0/16", "B")], {}, []),
        ([A, ("10.1.2.0/24", "Oslo")], {}, ["subnets[1].subnet"]),
        ([("0.0.0.0/0", "Oslo"), A, ("::/0", "B")], {}, []),
        (
            [A],
            {
                "default": "Frankfurt",
                "overflow": {"Osl": ["Bergen"], "Oslo": ["Oslo"], "Frankfurt": ["Bergen"]},
            },
            ["overflow.Osl"],
        ),
        ([], {}, [""]),
    ],
)
def test_doubtful_entries_are_named(
    build: Callable[..., Any], entries: list[tuple[str, str]], more: dict[str, Any], keys: list[str]
) -> None:
    subnets = [{"subnet": subnet, "location": location} for subnet, location in entries]
    found = build({"subnets": subnets, **more}).warnings()
    assert [warning.partition(": ")[0] for warning in found] == keys


def test_a_node_location_that_no_node_can_have_is_named(build: Callable[..., Any]) -> None:
    entry = {"subnet": "10.0.0.0/8", "location": "Oslo", "node_locations": ["Oslo HQ", "Bergen "]}
    (found,) = build({"subnets": [entry]}).warnings()
    assert found.startswith("subnets[0].node_locations: 'Bergen '")
