"""The alerts and the board that are shipped: they fire, and ask for nothing that is not there."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.observability.counters import (
    CALL_OUTCOMES,
    INTERNAL,
    REASONS,
    STEP_OUTCOMES,
    UNRECORDED,
)
from pexpolicy.observability.metrics import (
    CALL_BOUNDS,
    LEFT_BOUNDS,
    METRICS,
    MetricDefinition,
    MetricType,
)
from tests.support import doc_pages, live_server, wire

ALERTS = live_server.ROOT / "deploy" / "prometheus" / "alerts.yml"
TRIALS = [ALERTS.with_name("alerts_test.yml"), ALERTS.with_name("alerts_days_test.yml")]
DASHBOARD = live_server.ROOT / "deploy" / "grafana" / "pexpolicy.json"
OBSERVABILITY = live_server.ROOT / "docs" / "observability.md"
OF_PROMETHEUS = {"instance", "job", "le"}
VALUES = {
    "endpoint": set(ENDPOINTS),
    "outcome": {*CALL_OUTCOMES, *STEP_OUTCOMES},
    "cause": {*STEP_OUTCOMES, INTERNAL, UNRECORDED},
    "reason": set(REASONS),
    "le": {repr(bound) for bound in (*CALL_BOUNDS, *LEFT_BOUNDS)},
}
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="there is no promtool here"
)


def promtool(*arguments: str, given: str = "", folder: Path | None = None) -> tuple[int, str]:
    """What Prometheus' own tool says."""
    ran = subprocess.run(
        ["promtool", *arguments],
        input=given,
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    return ran.returncode, ran.stdout + ran.stderr


def alerts(text: str) -> dict[str, str]:
    """The rules by their names."""
    _, *rules = re.split(r"^ +- alert: ", text, flags=re.MULTILINE)
    return {rule.partition("\n")[0]: rule for rule in rules}


def selectors(query: str) -> Iterator[tuple[MetricDefinition, dict[str, str]]]:
    """The metrics that a query asks for, each with what it wants of labels."""
    for name, within in re.findall(r"\b(pexpolicy_\w+)(?:\{([^}]*)\})?", query):
        family = METRICS.get(name) or METRICS.get(re.sub(r"_(bucket|sum|count)$", "", name))
        assert family is not None, f"there is no metric {name}"
        if family.name != name:
            assert family.kind is MetricType.HISTOGRAM, name
        yield family, dict(re.findall(r'(\w+)=~?"([^"]*)"', within))


def known_labels(query: str) -> set[str]:
    return OF_PROMETHEUS.union(*(family.labels for family, _ in selectors(query)))


def judge(query: str) -> None:
    """Fail for a metric, a label or a value that the server does not have."""
    for family, wanted in selectors(query):
        assert wanted.keys() <= {*family.labels, *OF_PROMETHEUS}, query
        for label, value in wanted.items():
            if label in VALUES:
                assert set(value.split("|")) <= VALUES[label], f"{label} is never {value}"
    for grouped in re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", query):
        assert set(grouped.replace(" ", "").split(",")) <= known_labels(query), query


RULES = alerts(ALERTS.read_text())


def queries() -> list[str]:
    """Every query of the dashboard."""
    board = json.loads(DASHBOARD.read_text())
    panels: list[Any] = board["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [*asked, *(a["expr"] for a in board["annotations"]["list"])]


@pytest.mark.parametrize("name", RULES)
def test_an_alert_asks_for_what_there_is_and_says_what_to_do(name: str) -> None:
    rule = RULES[name]
    judge(rule.partition("labels:\n")[0])
    assert re.search(r"severity: (page|ticket|note)\n", rule)
    for annotation in ("summary", "runbook"):
        sentence = re.search(rf'{annotation}: "(.*)"\n', rule)
        assert sentence, f"{name} has no {annotation}"
        assert len(sentence[1]) > 20


@pytest.mark.parametrize("query", queries())
def test_a_panel_asks_for_what_there_is(query: str) -> None:
    assert "pexpolicy_" in query
    judge(query)


def test_a_query_for_what_there_is_not_is_noticed() -> None:
    for query in (
        "pexpolicy_request_total",
        'pexpolicy_requests_total{plugin="rooms"}',
        'pexpolicy_fallback_total{cause="late"}',
        "pexpolicy_workers_bucket",
        "sum by (plugin) (pexpolicy_requests_total)",
    ):
        with pytest.raises(AssertionError):
            judge(query)


def test_the_dashboard_shows_every_metric() -> None:
    shown = {family.name for query in queries() for family, _ in selectors(query)}
    assert shown == METRICS.keys()


def test_the_dashboard_has_its_panels_side_by_side() -> None:
    board = json.loads(DASHBOARD.read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    identities = [panel["id"] for panel in board["panels"]]
    assert len(set(identities)) == len(identities)


@needs_promtool
def test_each_alert_fires_when_it_should_and_not_before() -> None:
    code, said = promtool("test", "rules", *(t.name for t in TRIALS), folder=ALERTS.parent)
    assert code == 0, said
    tried = "".join(trial.read_text() for trial in TRIALS)
    for name in RULES:
        expected = re.findall(
            rf'{name}".*\n +eval_time: .*\n +exp_samples:(.*)\n'
            r"(?: +- labels: '\{\}'\n +value: (.*))?",
            tried,
        )
        assert sorted(expected) == [("", "1"), (" []", "")], name


@needs_promtool
def test_the_trials_notice_each_alert_that_never_fires(tmp_path: Path) -> None:
    expression = r"expr: (?:>-\n(?: {10}.*\n)+|.*\n)"
    dead = re.sub(expression, "expr: vector(0) > 1\n", ALERTS.read_text())
    (tmp_path / "alerts.yml").write_text(dead)
    for trial in TRIALS:
        (tmp_path / trial.name).write_text(trial.read_text())
    code, said = promtool("test", "rules", *(t.name for t in TRIALS), folder=tmp_path)
    assert code != 0
    assert {name for name in RULES if f'"{name}"' in said.replace("\\", "")} == RULES.keys()


@needs_promtool
def test_prometheus_finds_no_fault_with_the_queries_of_the_dashboard() -> None:
    asked = [q.replace("$__rate_interval", "5m").replace("$instance", ".*") for q in queries()]
    code, said = promtool(
        "--experimental", "promql", "format", " or ".join(f"({q})" for q in asked)
    )
    assert code == 0, said


@needs_promtool
def test_prometheus_finds_no_fault_with_the_metrics(running_server: live_server.Running) -> None:
    running_server.ask(wire.SERVICE)
    reply = running_server.operator("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    code, said = promtool("check", "metrics", given=reply.body.decode())
    assert (code, said) == (0, "")


@needs_promtool
def test_the_scrape_configuration_that_is_shown_is_one(tmp_path: Path) -> None:
    shown = doc_pages.block(OBSERVABILITY, "yaml")
    assert "job_name: pexpolicy\n" in shown
    (tmp_path / "token").write_text("a token")
    rules = f"rule_files:\n  - {ALERTS}\n"
    (tmp_path / "prometheus.yml").write_text(
        rules + shown.replace("/etc/prometheus/", f"{tmp_path}/")
    )
    code, said = promtool("check", "config", "prometheus.yml", folder=tmp_path)
    assert code == 0, said


def test_the_page_explains_each_metric_and_each_label_value() -> None:
    explained = {row[0]: row[1] for row in doc_pages.rows(OBSERVABILITY) if row[0] in METRICS}
    assert explained == {name: ", ".join(family.labels) or "-" for name, family in METRICS.items()}
    page = OBSERVABILITY.read_text()
    for values in (CALL_OUTCOMES, STEP_OUTCOMES, REASONS, (INTERNAL, UNRECORDED)):
        for value in values:
            assert f"`{value}`" in page


def test_the_page_lists_each_alert() -> None:
    assert {row[0] for row in doc_pages.rows(OBSERVABILITY)} >= RULES.keys()
