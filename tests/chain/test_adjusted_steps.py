"""Adjusted and merged decisions where they are shown: explain, metrics, traces and tests."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pexpolicy import (
    UNSET,
    Conference,
    ParticipantProperties,
    Plugin,
    Reject,
    ServiceConfigurationRequest,
    hookimpl,
)
from pexpolicy.audit.console import render
from pexpolicy.models.outcome import AdjustedStep, Outcome
from pexpolicy.testing import (
    capture_audit,
    decide,
    decide_sync,
    load_cases,
    make_policy,
    make_request,
)
from pexpolicy.testing.cases import run_cases
from tests.cli.test_main import invoked
from tests.observability.test_tracing import in_memory
from tests.support import wire
from tests.support.adjusting_plugins import ROOM
from tests.support.admin_client import serve_with_admin
from tests.support.fake_plugins import always, plugin, policy
from tests.support.isolated import PluginFolder
from tests.support.secret_canaries import PIN

REQUEST = make_request("service_configuration", local_alias="board@example.com")


class Rooms:
    def __init__(self, settings: object) -> None:
        self.settings = settings

    @hookimpl
    async def service_configuration(self) -> Conference:
        return ROOM


class Banner(Plugin):
    async def adjust_service_configuration(
        self, request: ServiceConfigurationRequest, decision: Any
    ) -> Any:
        request.annotate(banner="Bergen")
        return decision.replace(ivr_theme_name="Bergen", description=UNSET, pin=PIN[::-1])


CHANGES = {
    "ivr_theme_name": ("Oslo", "Bergen"),
    "description": ("Third floor", UNSET),
    "pin": (PIN, PIN[::-1]),
}


def test_a_test_reads_the_changes_of_a_step() -> None:
    with capture_audit() as lines:
        outcome = decide_sync([Rooms, Banner], REQUEST)
    decided, step = outcome.steps
    assert (decided.outcome, decided.hook) == ("decided", "")
    assert isinstance(step, AdjustedStep)
    assert (step.plugin, step.hook) == ("banner", "adjust_service_configuration")
    assert step.changes == CHANGES
    assert (step.before, step.after) == (ROOM, outcome.decision)
    (line,) = lines
    assert line["annotations"] == {"banner": {"banner": "Bergen"}}
    assert line["steps"][1]["changes"]["pin"] == {"from": "***", "to": "***"}


CASES = """
[[case]]
name = "adjusted"
endpoint = "service_configuration"
expect = {result = {ivr_theme_name = "Bergen"}, steps = {banner = "adjusted"}}

[[case]]
name = "one hook of a plugin"
endpoint = "service_configuration"

[case.expect]
decided_by = "rooms"
steps = {"banner.adjust_service_configuration" = "abstained"}
"""


async def test_cases_name_the_steps_of_adjusters(tmp_path: Path) -> None:
    (tmp_path / "cases.toml").write_text(CASES)
    cases = load_cases(tmp_path / "cases.toml")
    run = await run_cases(make_policy([Rooms, Banner]), cases)
    assert [row.ok for row in run.rows] == [True, False]
    shown = str(run.rows[1])
    assert "steps.banner.adjust_service_configuration" in shown
    assert "pin" in shown
    assert PIN not in shown
    counted = {(c["plugin"], c["hook"]): c for c in run.coverage.hooks()}
    assert counted["banner", "adjust_service_configuration"]["decided"] == 2
    assert counted["rooms", "service_configuration"]["decided"] == 2


async def test_a_case_of_merged_decisions_shows_the_fields() -> None:
    classes = {
        "role": plugin(participant_properties=always(ParticipantProperties(spotlight=1))),
        "names": plugin(participant_properties=always(ParticipantProperties(call_tag="vip"))),
    }
    made = policy(classes, endpoints={"participant_properties": {"combine": "merge"}})
    async with made.serving():
        outcome = await decide(made, make_request("participant_properties"))
    assert [step.fields for step in outcome.steps] == [("spotlight",), ("call_tag",)]
    assert outcome.decision == ParticipantProperties(spotlight=1, call_tag="vip")


def test_explain_prints_each_change_and_hides_secrets(tmp_path: Path) -> None:
    tables = []
    for name, kind, what in (("halls", "Decides", "room"), ("banner", "Adjusts", "repin")):
        source = f"from tests.support.adjusting_plugins import {kind}\n\nclass P({kind}): pass\n"
        (tmp_path / f"{name}.py").write_text(source)
        tables.append(f'[plugins.{name}.settings]\ndo = "{what}"\n')
    config = tmp_path / "config.toml"
    config.write_text("\n".join(['plugin_dirs = ["."]', *tables]))
    result = invoked("explain", "--config", str(config), wire.SERVICE)
    shown = result.stdout
    assert result.exit_code == 0, result.stderr
    assert "banner (adjusts)" in shown
    assert "pin from *** to ***" in " ".join(shown.split())
    assert PIN not in shown
    config.write_text(config.read_text().replace('"repin"', '"lock"'))
    shown = invoked("explain", "--config", str(config), wire.SERVICE).stdout
    changes = "locked from nothing to true; reason from nothing to after hours"
    assert changes in " ".join(shown.split())


async def test_metrics_and_traces_count_adjusted_steps(tmp_path: Path) -> None:
    exporter, spans = in_memory()
    classes = {"rooms": Rooms, "banner": Banner}
    async with serve_with_admin(policy(classes), tmp_path, spans=spans) as server:
        await server.ask(wire.SERVICE)
        await server.ask(wire.SERVICE)
        metrics = await server.metrics()
    assert metrics("plugin_calls_total", plugin="banner", outcome="adjusted") == 2
    assert metrics("plugin_calls_total", plugin="rooms", outcome="decided") == 2
    assert metrics("plugin_duration_seconds_count", plugin="banner") == 2
    with pytest.raises(KeyError):
        metrics("plugin_calls_total", plugin="rooms", outcome="adjusted")
    span = next(span for span in exporter.get_finished_spans() if span.name == "banner")
    assert dict(span.attributes or {}) == {
        "pexpolicy.outcome": "adjusted",
        "pexpolicy.hook": "adjust_service_configuration",
        "pexpolicy.fields": ("pin", "ivr_theme_name", "description"),
    }
    assert span.status.is_unset


def test_the_terminal_names_who_adjusted() -> None:
    with capture_audit() as lines:
        decide_sync([Rooms, Banner], REQUEST)
    shown = render(lines[0]).decode()
    assert "by rooms" in shown
    assert "banner adjusted" in shown


async def test_observers_see_the_changes_and_in_a_process_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: asyncio.Queue[Outcome] = asyncio.Queue()

    class Observer(Plugin):
        async def on_decision(self, outcome: Outcome) -> None:
            told.put_nowait(outcome)

    made = make_policy([Rooms, Banner, Observer])
    async with made.serving():
        await decide(made, REQUEST)
        outcome = await told.get()
    assert outcome.steps[0].changes == {}
    assert outcome.steps[1].changes == CHANGES
    shelf = PluginFolder(tmp_path)
    written = tmp_path / "told"
    source = f"""
    @hookimpl
    def on_decision(self, outcome):
        with open({str(written)!r}, "w") as file:
            step = outcome.steps[1]
            print(step.outcome, step.hook, *step.fields, file=file)
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    async with shelf.serving(source) as isolated:
        await isolated.hooks["on_decision"](outcome)
    assert written.read_text().split() == [
        "adjusted",
        "adjust_service_configuration",
        "pin",
        "ivr_theme_name",
        "description",
    ]


def test_a_reject_that_is_adjusted_stays_the_same_class() -> None:
    class Reasons(Plugin):
        async def adjust_service_configuration(
            self, request: ServiceConfigurationRequest, decision: Any
        ) -> Any:
            return {**decision.set_fields(), "service_type": "conference", "name": "x"}

    outcome = decide_sync(
        [plugin(service_configuration=always(Reject(reason="no"))), Reasons], REQUEST
    )
    assert outcome.decision == Reject(reason="no")
    assert [step.outcome for step in outcome.steps] == ["decided", "invalid"]
