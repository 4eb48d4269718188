"""The exposition of a recorded run: names, types, labels and sums."""

import asyncio
import re
from pathlib import Path

import pytest

from pexpolicy import Conference, Redirect, Reject, hookimpl, metrics
from pexpolicy.plugins.metrics import PLUGIN_METRICS
from tests.support import fake_plugins, wire
from tests.support.admin_client import serve_with_admin
from tests.support.fake_plugins import policy

RECORDED = Path(__file__).with_name("exposition.txt")
MEASURED = re.compile(r"_(?:sum|free_bytes|lag_seconds|timestamp_seconds)\b|_build_info")
"""Samples whose value, or label, differs from run to run."""


def shape(text: str) -> list[str]:
    """Return the samples in a fixed order, without what is measured and without zeros."""
    lines = []
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if MEASURED.search(name) and name[0] != "#":
            value = "…"
        if "_bucket{" not in name and value != "0.0" and not line.startswith("# HELP"):
            lines.append(re.sub(r'hash="\w+"', 'hash="…"', f"{name} {value}"))
    return sorted(lines)


async def test_a_recorded_run_is_exposed_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_METRICS_PASSWORD", "a password")
    PLUGIN_METRICS.clear()

    class Counting:
        def __init__(self, settings: None) -> None:
            metrics.gauge("rooms", "Rooms.", combine="max").set(3)
            self.asked = metrics.counter("asked_total", "Asked.", ["what"])
            self.took = metrics.histogram("took_seconds", "Time.", bounds=[0.5, 1])

        @hookimpl
        async def service_configuration(self, request: object) -> None:
            self.asked.inc(what="rooms")
            self.took.observe(0.75)

        @hookimpl
        async def on_decision(self, outcome: object) -> None:
            """See the outcome."""

    async def slow(_: object) -> None:
        await asyncio.sleep(0.5)

    always, raises = fake_plugins.always, fake_plugins.raises
    plugin = fake_plugins.plugin
    made = policy(
        {
            "counting": Counting,
            "fails": plugin(service_configuration=raises(ValueError())),
            "late": plugin(participant_properties=slow, media_location=always(None)),
            "wrong": plugin(media_location=always({"location": 7})),
            "rooms": plugin(
                service_configuration=always(Conference(name="Room", service_tag="room")),
                participant_properties=always(Reject()),
            ),
            "shadow": plugin(service_configuration=always(Redirect(new_alias="sip:a@b.example"))),
        },
        {"fails": {"breaker": True}, "late": {"timeout": 0.02}, "shadow": {"mode": "shadow"}},
        auth={"user": "pexip", "password_env": "TEST_METRICS_PASSWORD"},
    )
    right = wire.basic("pexip", "a password")
    async with serve_with_admin(made, tmp_path, in_server=True) as server:
        for _ in range(6):
            for target in wire.TARGETS.values():
                await server.ask(target, headers=right)
        await server.ask(wire.SERVICE)
        await server.ask(wire.SERVICE, headers=wire.basic("pexip", "another"))
        await server.ask(wire.SERVICE, method="POST", headers=right)
        await made._background.finish()
        text = (await server.operator("/metrics")).body.decode()
    assert shape(text) == RECORDED.read_text().splitlines()
