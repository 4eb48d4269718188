"""The shipped alerts and dashboard: alerts fire, and queries use existing metrics only."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs import generate_metrics
from pexpolicy.access.refusals import REASONS
from pexpolicy.chain.background import OBSERVER_OUTCOMES
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.outcome import ABSTAINED, DECIDED, NOT_ANSWERED
from pexpolicy.observability.metrics import CALL_BOUNDS, LEFT_BOUNDS, METRICS
from pexpolicy.observability.telemetry import CALL_OUTCOMES, INTERNAL, UNRECORDED
from pexpolicy.plugins.metrics import Definition
from tests.support import doc_pages, live_server, wire
from tests.support.paths import ROOT

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
RULE_TESTS = [ALERTS.with_name("alerts_test.yml"), ALERTS.with_name("alerts_days_test.yml")]
DASHBOARD = ROOT / "deploy" / "grafana" / "pexpolicy.json"
OBSERVABILITY = ROOT / "docs" / "observability.md"
PROMETHEUS_LABELS = {"instance", "job", "le"}
VALUES = {
    "endpoint": set(ENDPOINTS),
    "outcome": {*CALL_OUTCOMES, DECIDED, ABSTAINED, *NOT_ANSWERED, *OBSERVER_OUTCOMES},
    "cause": {*NOT_ANSWERED, INTERNAL, UNRECORDED},
    "reason": set(REASONS),
    "le": {repr(bound) for bound in (*CALL_BOUNDS, *LEFT_BOUNDS)},
}
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed"
)


def promtool(*arguments: str, text: str = "", folder: Path | None = None) -> tuple[int, str]:
    """Run Prometheus' own tool; return its exit code and output."""
    result = subprocess.run(
        ["promtool", *arguments],
        input=text,
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    return result.returncode, result.stdout + result.stderr


def alerts(text: str) -> dict[str, str]:
    """Return the rules by name."""
    _, *rules = re.split(r"^ +- alert: ", text, flags=re.MULTILINE)
    return {rule.partition("\n")[0]: rule for rule in rules}


def selectors(query: str) -> Iterator[tuple[Definition, dict[str, str]]]:
    """Yield each metric of a query with its label matchers."""
    for name, matchers in re.findall(r"\b(pexpolicy_\w+)(?:\{([^}]*)\})?", query):
        family = METRICS.get(name) or METRICS.get(re.sub(r"_(bucket|sum|count)$", "", name))
        assert family is not None, f"there is no metric {name}"
        if family.name != name:
            assert family.kind == "histogram", name
        yield family, dict(re.findall(r'(\w+)=~?"([^"]*)"', matchers))


def known_labels(query: str) -> set[str]:
    return PROMETHEUS_LABELS.union(*(family.labels for family, _ in selectors(query)))


def check_query(query: str) -> None:
    """Fail for a metric, a label or a value that the server does not have."""
    for family, labels in selectors(query):
        assert labels.keys() <= {*family.labels, *PROMETHEUS_LABELS}, query
        for label, value in labels.items():
            if label in VALUES:
                assert set(value.split("|")) <= VALUES[label], f"{label} is never {value}"
    for grouped in re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", query):
        assert set(grouped.replace(" ", "").split(",")) <= known_labels(query), query


RULES = alerts(ALERTS.read_text())


def queries() -> list[str]:
    """Return every query of the dashboard."""
    dashboard = json.loads(DASHBOARD.read_text())
    panels: list[Any] = dashboard["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [*expressions, *(a["expr"] for a in dashboard["annotations"]["list"])]


@pytest.mark.parametrize("name", RULES)
def test_an_alert_uses_existing_metrics_and_has_a_runbook(name: str) -> None:
    rule = RULES[name]
    check_query(rule.partition("labels:\n")[0])
    assert re.search(r"severity: (page|ticket|note)\n", rule)
    for annotation in ("summary", "runbook"):
        sentence = re.search(rf'{annotation}: "(.*)"\n', rule)
        assert sentence, f"{name} has no {annotation}"
        assert len(sentence[1]) > 20


@pytest.mark.parametrize("query", queries())
def test_a_panel_uses_existing_metrics(query: str) -> None:
    assert "pexpolicy_" in query
    check_query(query)


def test_the_dashboard_shows_every_metric() -> None:
    documented = {family.name for query in queries() for family, _ in selectors(query)}
    assert documented == METRICS.keys()


@needs_promtool
def test_each_alert_fires_when_it_should_and_not_before() -> None:
    code, output = promtool(
        "test", "rules", *(test.name for test in RULE_TESTS), folder=ALERTS.parent
    )
    assert code == 0, output
    text = "".join(rule_test.read_text() for rule_test in RULE_TESTS)
    for name in RULES:
        expected = re.findall(
            rf'{name}".*\n +eval_time: .*\n +exp_samples:(.*)\n'
            r"(?: +- labels: '\{\}'\n +value: (.*))?",
            text,
        )
        assert sorted(expected) == [("", "1"), (" []", "")], name


@needs_promtool
def test_prometheus_accepts_the_queries_of_the_dashboard() -> None:
    expressions = [
        q.replace("$__rate_interval", "5m").replace("$instance", ".*") for q in queries()
    ]
    code, output = promtool(
        "--experimental", "promql", "format", " or ".join(f"({q})" for q in expressions)
    )
    assert code == 0, output


@needs_promtool
def test_prometheus_accepts_the_metrics(running_server: live_server.Running) -> None:
    running_server.ask(wire.SERVICE)
    reply = running_server.operator("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    code, output = promtool("check", "metrics", text=reply.body.decode())
    assert (code, output) == (0, "")


@needs_promtool
def test_the_scrape_configuration_on_the_page_is_valid(tmp_path: Path) -> None:
    documented = doc_pages.block(OBSERVABILITY, "yaml")
    assert "job_name: pexpolicy\n" in documented
    (tmp_path / "token").write_text("a token")
    rules = f"rule_files:\n  - {ALERTS}\n"
    (tmp_path / "prometheus.yml").write_text(
        rules + documented.replace("/etc/prometheus/", f"{tmp_path}/")
    )
    code, output = promtool("check", "config", "prometheus.yml", folder=tmp_path)
    assert code == 0, output


def test_the_reference_lists_each_metric_and_each_alert() -> None:
    text = doc_pages.METRICS.read_text()
    assert text == generate_metrics.page(), "run make reference"
    assert {row[0] for row in doc_pages.rows(doc_pages.METRICS)} == METRICS.keys() | RULES.keys()
