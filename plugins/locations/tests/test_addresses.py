"""Addresses from other parameters, host bits, descriptions, the default location and countries."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.mmdb import write_mmdb

Build = Callable[..., Any]
Complaints = Callable[..., list[str]]

OSLO = {"subnet": "10.1.0.0/16", "location": "Oslo"}
CALL_ID = {"value_of": "params.Call-ID", "regex": ".*@([0-9a-f.:]+)(?:;.*)?"}


def test_an_address_is_taken_from_another_parameter_by_pattern(build: Build) -> None:
    locations = build({"subnets": [OSLO], "addresses": [CALL_ID, "remote_address"]})
    behind = locations.ask("192.0.2.1", **{"Call-ID": "3f2a@10.1.4.5;x=y"})
    assert (behind.location, behind.reason) == ("Oslo", "params.Call-ID is in 10.1.0.0/16")
    assert locations.ask("10.1.4.5", **{"Call-ID": "3f2a@example.com"}).reason == (
        "remote_address is in 10.1.0.0/16"
    )
    assert locations.ask("192.0.2.1").step == "abstained"


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ({"value_of": "call_id"}, "addresses[0].value_of: there is no 'call_id'"),
        ({"value_of": "vendor", "regex": "a"}, "addresses[0].regex: 'a' has no group"),
        ({"regex": "(a)"}, "addresses[0].value_of: is missing"),
    ],
)
def test_a_wrong_address_is_an_error(
    complaints: Complaints, address: dict[str, str], problem: str
) -> None:
    (found,) = complaints({"addresses": [address], "default": "Oslo"})
    assert found.startswith(problem)


def test_host_bits_are_ignored_with_a_warning(build: Build) -> None:
    locations = build({"subnets": [{"subnet": "10.1.2.3/16", "location": "Oslo"}]})
    assert locations.ask("10.1.200.1").reason == "remote_address is in 10.1.0.0/16"
    assert locations.warnings()[0].startswith("subnets[0].subnet: ")


def test_the_description_of_a_subnet_is_in_the_reason(build: Build) -> None:
    entry = {**OSLO, "description": "Head office", "protocols": ["sip"]}
    csv = "subnet,location,description\n10.2.0.0/16,Bergen,Branch {1}\n"
    locations = build({"subnets": [entry]}, csv=csv)
    assert locations.ask("10.1.0.1", protocol="sip").reason == (
        "remote_address is in 10.1.0.0/16 (Head office), for sip"
    )
    assert locations.ask("10.2.0.1").reason == "remote_address is in 10.2.0.0/16 (Branch {1})"


def test_the_default_location_has_overflow_of_its_own(build: Build, complaints: Complaints) -> None:
    settings = {
        "subnets": [OSLO],
        "default": "Oslo",
        "default_overflow": ["Bergen"],
        "overflow": {"Oslo": ["Frankfurt"]},
    }
    locations = build(settings)
    assert locations.ask("10.1.0.1").result["overflow_locations"] == ["Frankfurt"]
    assert locations.ask("192.0.2.1").result["overflow_locations"] == ["Bergen"]
    none = build({**settings, "default_overflow": []})
    assert "overflow_locations" not in none.ask("192.0.2.1").result
    assert complaints({"default_overflow": ["Bergen"]}) == [
        "default_overflow: belongs to default, which is missing"
    ]


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def place(country: str, continent: str) -> dict[str, Any]:
        return {"country": {"iso_code": country}, "continent": {"code": continent}}

    networks = {
        "192.0.2.0/24": place("NO", "EU"),
        "198.51.100.0/24": place("SE", "EU"),
        "203.0.113.0/24": {"continent": {"code": "AS"}},
        "2001:db8::/32": place("NO", "EU"),
    }
    return write_mmdb(tmp_path_factory.mktemp("geoip") / "countries.mmdb", networks)


def test_other_addresses_are_found_by_country_and_continent(build: Build, database: Path) -> None:
    geoip = {
        "database": str(database),
        "countries": {"NO": "Oslo"},
        "continents": {"EU": "Frankfurt"},
    }
    locations = build({"subnets": [{**OSLO, "subnet": "192.0.2.128/25"}], "geoip": geoip})
    expected = {
        "192.0.2.129": ("Oslo", "remote_address is in 192.0.2.128/25"),
        "192.0.2.1": ("Oslo", "remote_address is in country NO"),
        "2001:db8::1%eth0": ("Oslo", "remote_address is in country NO"),
        "::ffff:192.0.2.1": ("Oslo", "remote_address is in country NO"),
        "198.51.100.1": ("Frankfurt", "remote_address is in continent EU"),
        "203.0.113.1": (None, None),
        "8.8.8.8": (None, None),
        "nonsense": (None, None),
        "1" * 5_000: (None, None),
        "": (None, None),
    }
    for address, (location, reason) in expected.items():
        asked = locations.ask(address)
        assert (asked.location, asked.reason) == (location, reason), address
    assert locations.status()["hits"] == {"Oslo": 4, "Frankfurt": 1}
    fallback = build({"default": "Bergen", "geoip": geoip})
    assert fallback.ask("203.0.113.1").location == "Bergen"
    assert database in fallback.policy.files


def test_a_database_that_cannot_be_used_is_an_error(
    complaints: Complaints, database: Path, tmp_path: Path
) -> None:
    countries = {"countries": {"NO": "Oslo"}}
    (tmp_path / "text.mmdb").write_text("no database")
    cities = write_mmdb(tmp_path / "asn.mmdb", {"192.0.2.0/24": {"asn": 1}}, "Test-ASN")
    for path, problem in (
        (tmp_path / "missing.mmdb", "cannot be read: No such file or directory"),
        (tmp_path / "text.mmdb", "is no database in the format MMDB"),
        (cities, "has no countries: it is of the type 'Test-ASN'"),
    ):
        (found,) = complaints({"geoip": {"database": str(path), **countries}})
        assert found.startswith("geoip.database: ")
        assert problem in found
    (found,) = complaints({"geoip": {"database": str(database)}})
    assert found == "geoip: write countries, continents or both"
    (found,) = complaints({"geoip": {"database": str(database), "countries": {"no": "Oslo"}}})
    assert found.startswith("geoip.countries.no")


def test_locations_of_countries_are_checked(complaints: Complaints, database: Path) -> None:
    geoip = {"database": str(database), "countries": {"NO": "Oso"}}
    tables = {"infinity": {"locations": ["Oslo"]}}
    (found,) = complaints({"geoip": geoip}, tables=tables)
    assert found.startswith("geoip.countries.NO")
