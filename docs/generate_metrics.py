"""The generator of metrics.md: the metrics of the server, and the shipped alerts on them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from docs.generate_settings import table
from pexpolicy.observability.metrics import METRICS
from pexpolicy.plugins.metrics import Definition

HERE = Path(__file__).parent
ALERTS = HERE.parent / "deploy" / "prometheus" / "alerts.yml"
INTRODUCTION = """# Metrics and alerts

From the server and `deploy/prometheus/alerts.yml`. The values of labels, and how to scrape:
[observability](observability.md#metrics).

## Metrics
"""
HEADS = ("metric", "type", "labels", "meaning")
_LABEL = re.compile(r"{{ \$labels\.(\w+) }}")
_VALUE = re.compile(r"{{ \$value[^}]*}}")


def page() -> str:
    """Return the whole page."""
    rows = [_metric(metric) for metric in METRICS.values()]
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    alerts = [_alert(rule) for group in groups for rule in group["rules"]]
    heads = ("alert", "severity", "what it says", "what to do")
    return f"{INTRODUCTION}\n{table(HEADS, rows)}\n## Alerts\n\n{table(heads, alerts)}"


def _metric(metric: Definition) -> tuple[str, ...]:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"`{metric.name}`", metric.kind, labels, metric.help


def _alert(rule: dict[str, Any]) -> tuple[str, ...]:
    said = _VALUE.sub("*N*", _LABEL.sub(r"*\1*", rule["annotations"]["summary"]))
    severity = rule["labels"]["severity"]
    return f"`{rule['alert']}`", severity, said, rule["annotations"]["runbook"]


if __name__ == "__main__":
    (HERE / "metrics.md").write_text(page(), encoding="utf-8")
