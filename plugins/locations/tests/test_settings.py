"""Settings that cannot be used: every error with its place and what to write."""

import re
from collections.abc import Callable
from typing import Any

import pytest

Complaints = Callable[..., list[str]]
Build = Callable[..., Any]

NO_SUBNET = "is not a subnet; write 10.0.0.0/8, 2001:db8::/32 or a single address"
NOT_LISTED = "is not listed under [infinity] locations"
THERE_ARE = "; there are Bergen, Frankfurt, Oslo"
PROTOCOLS = "'api', 'webrtc', 'sip', 'rtmp', 'h323', 'teams' or 'mssip'"
HEADER = "subnet,location,overflow_locations,protocols,node_locations\n"


def test_every_wrong_subnet_is_named_at_once(complaints: Complaints) -> None:
    entries = [
        {"subnet": "10.1.0.0/33", "location": "Oslo"},
        {"subnet": "10.2.0.0/16", "location": "Oslo"},
        {"subnet": "10.2.0.0/16", "location": "Bergen"},
    ]
    assert complaints(
        {"subnets": entries}, csv=HEADER + "::ffff:10.2.0.0/112,Oslo\nten,Oslo\n"
    ) == [
        f"subnets[0].subnet: '10.1.0.0/33' {NO_SUBNET}",
        "subnets[2].subnet: 10.2.0.0/16 is in subnets[1] already, for the same calls",
        'csv."subnets.csv line 2".subnet: 10.2.0.0/16 is in subnets[1] already, for the same calls',
        f"csv.\"subnets.csv line 3\".subnet: 'ten' {NO_SUBNET}",
    ]


def test_every_wrong_line_of_the_file_is_named_at_once(complaints: Complaints) -> None:
    said = complaints({}, csv=HEADER + "10.1.0.0/16\n10.2.0.0/16,Oslo,,sipp\n10.3.0.0/16,Oslo\n")
    name = "name of a system location, spelled as in Infinity"
    guess = "not 'sipp'; did you mean 'sip'?"
    assert said == [
        f"csv: subnets.csv line 2: location: is missing: {name}",
        f"csv: subnets.csv line 3: protocols[0]: should be {PROTOCOLS}, {guess}",
    ]


def test_a_cell_that_is_missing_hides_no_mistake_of_another_line(complaints: Complaints) -> None:
    said = complaints({}, csv=HEADER + "10.1.0.0/16\nten,Oslo\n10.2.0.0/16,A\n10.2.0.0/16,B\n")
    assert sorted(re.findall(r"line (\d)", one)[0] for one in said) == ["2", "3", "5"]


def test_a_column_that_does_not_exist_is_named_with_the_one_that_was_meant(
    complaints: Complaints,
) -> None:
    assert complaints({}, csv="subnet;locaton\n10.1.0.0/16;Oslo\n") == [
        "csv: subnets.csv line 1: there is no column 'locaton'; did you mean 'location'?",
        "csv: subnets.csv line 1: the column location is missing",
    ]


def test_a_file_that_is_not_there_is_said(complaints: Complaints) -> None:
    (said,) = complaints({"csv": "missing.csv"})
    assert said.startswith("csv: ")
    assert said.endswith("missing.csv cannot be read: No such file or directory")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"subnets": [{"subnet": "10.0.0.0/8"}]}, "subnets[0].location: is missing"),
        (
            {"subnets": [{"subnet": "10.0.0.0/8", "location": "Oslo", "overflow": []}]},
            "subnets[0].overflow: unknown key; there are",
        ),
        ({"subnets": [{"subnet": "::/0", "location": ""}]}, "subnets[0].location: "),
        ({"addresses": []}, "addresses: "),
        ({"addresses": ["remote_adress"]}, "addresses[0]: should be 'remote_address'"),
        ({"defaults": "Oslo"}, "defaults: unknown key; did you mean 'default'?"),
        ({"default": "x" * 251}, "default: "),
        ({"overflow": {"Oslo": "Bergen"}}, "overflow.Oslo: "),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    complaints: Complaints, settings: dict[str, Any], says: str
) -> None:
    (said,) = complaints(settings)
    assert said.startswith(says)


def test_every_name_that_infinity_does_not_know_is_named_with_its_place(
    complaints: Complaints,
) -> None:
    said = complaints(
        {
            "default": "Frankfrut",
            "subnets": [{"subnet": "10.1.0.0/16", "location": "Osl"}],
            "overflow": {"Bergen": ["Oslo", "Nowhere"]},
        },
        csv=HEADER + "10.2.0.0/16,Bergen\n",
        tables={"infinity": {"locations": ["Oslo", "Bergen", "Frankfurt"]}},
    )
    assert said == [
        f"subnets[0].location: 'Osl' {NOT_LISTED}; did you mean 'Oslo'?",
        f"csv.\"subnets.csv line 2\".overflow_locations: 'Nowhere' {NOT_LISTED}{THERE_ARE}",
        f"default.location: 'Frankfrut' {NOT_LISTED}; did you mean 'Frankfurt'?",
    ]


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ({}, {}, True),
        ({}, {"protocols": ["sip"]}, False),
        ({"protocols": ["webrtc"]}, {"protocols": ["sip"]}, False),
        ({"protocols": ["sip", "h323"]}, {"protocols": ["sip"]}, True),
        ({"node_locations": ["A"]}, {"protocols": ["sip"]}, False),
        ({"node_locations": ["A"]}, {"node_locations": ["B"]}, False),
        ({"node_locations": ["A"]}, {"node_locations": ["B", "A"]}, True),
        (
            {"node_locations": ["A"], "protocols": ["sip"]},
            {"node_locations": ["A"], "protocols": ["webrtc"]},
            False,
        ),
    ],
)
def test_two_entries_of_one_subnet_must_be_for_different_calls(
    build: Build, complaints: Complaints, first: Any, second: Any, clash: bool
) -> None:
    entries = [
        {"subnet": "10.0.0.0/8", "location": "Oslo", **first},
        {"subnet": "10.0.0.0/8", "location": "Bergen", **second},
    ]
    if clash:
        (said,) = complaints({"subnets": entries})
        assert said == "subnets[1].subnet: 10.0.0.0/8 is in subnets[0] already, for the same calls"
    else:
        assert build({"subnets": entries}).status()["subnets"] == 1


def test_entries_of_file_and_configuration_make_one_table(build: Build) -> None:
    locations = build(
        {"subnets": [{"subnet": "10.1.0.0/16", "location": "Oslo"}]},
        csv="\ufeffSubnet;Location;Overflow_Locations;Protocols;Node_Locations\r\n"
        "2001:db8::/32;Bergen;Oslo | DMZ;;\r\n"
        '10.1.0.0/16;"Oslo; old wing";;sip|h323;DMZ\r\n',
    )
    assert locations.ask("10.1.0.1").location == "Oslo"
    assert locations.ask("10.1.0.1", protocol="h323", location="DMZ").location == "Oslo; old wing"
    assert locations.ask("2001:db8::1").result == {
        "location": "Bergen",
        "overflow_locations": ["Oslo", "DMZ"],
    }
