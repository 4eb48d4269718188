"""What `pexpolicy check` says of entries that are valid."""

from collections.abc import Callable
from typing import Any

Build = Callable[..., Any]


def warnings(build: Build, *entries: tuple[str, str], **more: Any) -> list[str]:
    subnets = [{"subnet": subnet, "location": location} for subnet, location in entries]
    said: list[str] = build({"subnets": subnets, **more}).warnings()
    return said


def test_subnets_next_to_one_another_need_no_warning(build: Build) -> None:
    assert warnings(build, ("10.1.0.0/16", "Oslo"), ("10.2.0.0/16", "Bergen")) == []


def test_an_address_that_looks_like_a_network_is_named(build: Build) -> None:
    assert warnings(build, ("10.1.0.0", "Oslo"), ("10.2.0.7", "Oslo")) == [
        "subnets[0].subnet: 10.1.0.0 is a single address; write 10.1.0.0/24 if its network is meant"
    ]


def test_locations_that_are_nearly_the_same_are_named(build: Build) -> None:
    said = warnings(build, ("10.1.0.0/16", "Oslo DC"), ("10.2.0.0/16", "oslo  DC"))
    assert said == [
        "subnets[1].location: 'oslo  DC' is nearly 'Oslo DC': write both as in Infinity"
    ]
    (text,) = warnings(build, ("10.1.0.0/16", "Oslo\nDC"))
    assert text.endswith("has a line end or a control character: remove it")


def test_a_location_that_overflows_to_itself_is_named(build: Build) -> None:
    entry = {"subnet": "10.1.0.0/16", "location": "Oslo", "overflow_locations": ["Oslo"]}
    (text,) = build({"subnets": [entry]}).warnings()
    assert text.startswith("subnets[0].location: 'Oslo' cannot overflow to itself")


def test_a_subnet_in_another_one_is_named_with_it(build: Build) -> None:
    assert warnings(build, ("10.1.2.0/24", "Oslo"), ("10.0.0.0/8", "A"), ("10.1.0.0/16", "A")) == [
        "subnets[2].subnet: 10.1.0.0/16 lies in 10.0.0.0/8; leads to the same: it is needless",
        "subnets[0].subnet: 10.1.2.0/24 lies in 10.1.0.0/16; the longer prefix decides",
    ]


def test_a_subnet_of_all_addresses_is_a_default_and_no_overlap(build: Build) -> None:
    assert warnings(build, ("0.0.0.0/0", "Oslo"), ("10.1.0.0/16", "Oslo"), ("::/0", "B")) == []


def test_many_overlaps_are_counted_and_not_listed(build: Build) -> None:
    inner = [(f"10.{n}.0.0/16", f"Location {n}") for n in range(50)]
    said = warnings(build, ("10.0.0.0/8", "Oslo"), *inner)
    assert len(said) == 21
    assert said[-1] == "subnets: 30 further subnets lie in others"


def test_overflow_that_is_never_used_is_named(build: Build) -> None:
    said = warnings(
        build,
        ("10.1.0.0/16", "Oslo"),
        default="Frankfurt",
        overflow={"Osl": ["Bergen"], "Oslo": ["Oslo"], "Frankfurt": ["Bergen"]},
    )
    assert said == [
        "overflow.Osl: no subnet leads to this location, and it is not the default",
        "overflow.Oslo: a full location cannot overflow to itself: remove it from its list",
    ]


def test_two_locations_in_one_name_are_named(build: Build) -> None:
    said = warnings(build, ("10.1.0.0/16", "Oslo"), ("10.2.0.0/16", "Oslo;Bergen"))
    text = "is one location; write further ones in overflow_locations"
    assert said == [f"subnets[1].location: 'Oslo;Bergen' {text}"]


def test_a_table_that_never_answers_is_named(build: Build) -> None:
    assert [line.removeprefix(": ") for line in warnings(build)] == [
        "lists no subnet and no default: it never answers"
    ]
