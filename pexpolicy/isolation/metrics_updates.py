"""Metrics of a plugin in worker processes, which the server counts as its own."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from pexpolicy.isolation.messages import MetricsUpdate, WorkerError
from pexpolicy.metrics import MAX_VALUE, PLUGIN_METRICS, Operation

INTERVAL_S = 0.25
"""Seconds between two updates of a worker; one that is killed loses what it counted since."""
MAX_HELP = 4096
"""Characters of the help text of a metric."""
OPERATIONS: dict[str, Operation] = {"counter": "inc", "gauge": "set", "histogram": "observe"}


class MetricsSender:
    """Sends what a worker has counted, while there is something new."""

    def __init__(self, send: Callable[[MetricsUpdate], None]) -> None:
        self._send = send

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send an update now and in each interval from now on."""
        self.update()
        loop.call_later(INTERVAL_S, self.start, loop)

    def update(self) -> None:
        """Send what has changed since the last update."""
        if changes := PLUGIN_METRICS.take_changes():
            self._send(MetricsUpdate([(*key, values) for key, values in changes.items()]))


def count_update(plugin: str, update: MetricsUpdate) -> None:
    """Count what a worker of a plugin did; raises ``WorkerError`` for a wrong update.

    The gauge of a plugin with several workers has the value that was set last.
    """
    for definition, labels, values in update.changes:
        is_long = len(definition.help) > MAX_HELP or any(len(v) > MAX_VALUE for v in labels)
        is_wrong = not all(map(math.isfinite, values)) and definition.kind != "gauge"
        is_negative = definition.kind == "counter" and min(values, default=0.0) < 0
        if is_long or is_wrong or is_negative or len(labels) != len(definition.labels):
            msg = f"its worker sent a wrong value of the metric {definition.name}"
            raise WorkerError(msg)
        for value in values:
            operation = OPERATIONS[definition.kind]
            PLUGIN_METRICS.record(plugin, definition, labels, operation, value)
