"""Settings that cannot be used, and settings to know of."""

from collections.abc import Callable
from typing import Any

import pytest

Build = Callable[..., Any]
Complaints = Callable[[dict[str, Any]], list[str]]


@pytest.mark.parametrize(
    "entry",
    [
        "",
        " ",
        ".",
        "*",
        "*.",
        "@",
        ".example.com",
        "example..com",
        "*.*.example.com",
        "a.*.example.com",
        "@@example.com",
        "alice@example.com",
        "sip:example.com",
        "example.com:5060",
        "https://example.com/",
        "two words.example",
        "[2001:db8::1]",
    ],
)
def test_what_is_no_domain_is_refused_with_its_place(complaints: Complaints, entry: str) -> None:
    (said,) = complaints({"allowed": ["example.com", entry]})
    assert said.startswith(f"allowed[1]: {entry!r} is not a domain; write example.com")


def test_all_mistakes_are_named_at_once(complaints: Complaints) -> None:
    said = complaints({"allowed": [5, "@"], "otherwise": "abstan", "allow": []})
    assert [line.split(": ")[0] for line in said] == [
        "allowed[0]",
        "allowed[1]",
        "otherwise",
        "allow",
    ]
    assert "'reject' or 'abstain'" in said[2]
    assert "did you mean 'allowed'" in said[3]


def test_the_domains_are_not_optional(complaints: Complaints) -> None:
    (said,) = complaints({})
    assert said.startswith("allowed: is missing: example.com or @example.com for itself, ")


def test_one_domain_is_still_a_list(complaints: Complaints) -> None:
    (said,) = complaints({"allowed": "example.com"})
    assert said.startswith("allowed: ")
    assert "list" in said


def test_plain_domains_are_nothing_to_warn_of(build: Build) -> None:
    assert build("example.com", "*.example.org").warnings() == []


def test_without_any_domain_no_device_registers(build: Build) -> None:
    assert build().warnings() == ["allowed: is empty: no device can register"]
    assert not build().allows("alice@example.com")
    assert build(otherwise="abstain").warnings() == []


def test_half_the_world_is_warned_of(build: Build) -> None:
    (said,) = build("*.com", "example.com").warnings()
    assert said.startswith("allowed: *.com lets every device register")
