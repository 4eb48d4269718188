"""Metrics of a plugin in worker processes, which the server counts as its own."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from pexpolicy.isolation.messages import MetricsUpdate, WorkerError
from pexpolicy.metrics import MAX_METRICS, MAX_SERIES, MAX_VALUE, REGISTRY, Definition

INTERVAL_S = 0.25
"""Seconds between two updates of a worker; one that is killed loses what it counted since."""
MAX_HELP = 4096
"""Characters of the help text of a metric."""


class MetricsSender:
    """Sends what a worker has counted, while there is something new."""

    def __init__(self, send: Callable[[MetricsUpdate], None]) -> None:
        self._send = send
        self._seen = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send an update now and in each interval from now on."""
        self.update()
        loop.call_later(INTERVAL_S, self.start, loop)

    def update(self) -> None:
        """Send what has changed since the last update."""
        self._seen, changed = REGISTRY.changed_since(self._seen)
        if changed:
            self._send(
                MetricsUpdate([(found.definition, found.labels, cells) for found, cells in changed])
            )


class MetricsReceiver:
    """Counts the updates of one worker for its plugin. Raises ``WorkerError`` for wrong ones.

    The gauge of a plugin with several workers has the value that was set last.
    """

    def __init__(self, plugin: str) -> None:
        self._plugin = plugin
        self._before: dict[tuple[Definition, tuple[str, ...]], list[float]] = {}

    def __call__(self, update: MetricsUpdate) -> None:
        """Count what is new in an update."""
        for definition, labels, cells in update.series:
            self._count(definition, labels, cells)
        if len(self._before) > MAX_METRICS * (MAX_SERIES + 1):
            msg = "its worker sent too many metrics"
            raise WorkerError(msg)

    def _count(self, definition: Definition, labels: tuple[str, ...], cells: list[float]) -> None:
        is_long = len(definition.help) > MAX_HELP or any(len(v) > MAX_VALUE for v in labels)
        if is_long or len(labels) != len(definition.labels) or len(cells) != definition.cells:
            msg = f"its worker sent a wrong value of the metric {definition.name}"
            raise WorkerError(msg)
        if definition.kind == "gauge":
            REGISTRY.set(self._plugin, definition, labels, cells[0])
            return
        before = self._before.get((definition, labels), [0.0] * definition.cells)
        self._before[definition, labels] = cells
        added = {at: cells[at] - before[at] for at in range(definition.cells)}
        grows = added if definition.kind == "counter" else {at: added[at] for at in added if at}
        if not all(0 <= amount < math.inf for amount in grows.values()):
            msg = f"its worker sent a wrong value of the metric {definition.name}"
            raise WorkerError(msg)
        REGISTRY.add(self._plugin, definition, labels, added)
