"""Settings that can be used, and that an administrator should know of all the same."""

from collections.abc import Callable
from typing import Any

import pytest

Warnings = Callable[..., list[str]]
HERE = {"url": "http://127.0.0.1:8001"}
AWAY = {"url": "https://policy.example.com"}


def test_what_is_plain_is_nothing_to_warn_of(warnings: Warnings) -> None:
    assert warnings({"targets": {"a": HERE, "b": AWAY}}) == []


def test_a_target_that_is_not_verified_is_warned_of(warnings: Warnings) -> None:
    (said,) = warnings({"targets": {"a": {**AWAY, "verify": False}}})
    assert said.startswith("targets.a.verify: anyone on the network path")


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://policy.example.com", True),
        ("http://10.0.0.1", True),
        ("https://policy.example.com", False),
        ("http://127.0.0.1:8001", False),
        ("http://[::1]:8001", False),
        ("http://localhost:8001", False),
    ],
)
def test_a_password_in_clear_on_the_network_is_warned_of(
    warnings: Warnings, monkeypatch: pytest.MonkeyPatch, url: str, warned: bool
) -> None:
    monkeypatch.setenv("OUTBOUND", "secret")
    said = warnings({"targets": {"a": {"url": url, "user": "us", "password_env": "OUTBOUND"}}})
    assert [line.split(": ")[0] for line in said] == (["targets.a.url"] if warned else [])


@pytest.mark.parametrize(
    ("timeout", "settings", "where"),
    [
        (1.0, {"targets": {"a": HERE}}, []),
        (1.0, {"targets": {"a": {**HERE, "timeout": 1.2}}}, ["targets"]),
        (1.5, {"targets": {"a": HERE}}, []),
        (2.9, {"targets": {"a": HERE, "b": AWAY}}, ["targets"]),
        (3.0, {"targets": {"a": HERE, "b": AWAY}}, []),
        (
            1.5,
            {
                "targets": {"a": HERE, "b": {**AWAY, "timeout": 2.0}},
                "routes": [{"targets": ["a"]}, {"targets": ["b"]}],
            },
            ["routes[1]"],
        ),
    ],
)
def test_targets_that_have_more_time_than_the_plugin_are_warned_of(
    warnings: Warnings, timeout: float, settings: dict[str, Any], where: list[str]
) -> None:
    said = warnings(settings, timeout)
    assert [line.split(": ")[0] for line in said] == where
    assert all(f"the plugin has {timeout:g} s" in line for line in said)


def test_a_target_without_a_route_is_warned_of(warnings: Warnings) -> None:
    targets = {"a": HERE, "b": AWAY, "c": AWAY}
    said = warnings({"targets": targets, "routes": [{"targets": ["a"], "compare_with": "b"}]})
    assert said == ["targets.c: no route asks this target"]
