"""Callers that ask a guard without a pause, and what became of their calls."""

import asyncio
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from lab.load import Call, Connection
from tests.support import wire

TARGETS = {
    **wire.TARGETS,
    "service_configuration": f"{wire.SERVICE}?local_alias=engineering&call_direction=dial_in",
    "participant_avatar": f"{wire.AVATAR}alice%40example.com?width=100&height=100",
    "directory_information": f"{wire.DIRECTORY}?q=a&limit=10",
}
"""A request for each endpoint."""


@dataclass
class Tally:
    """How many calls there were, and who answered them."""

    calls: int = 0
    by_server: int = 0
    by_guard: int = 0
    late: int = 0
    longest: float = 0.0
    unread: Counter[int] = field(default_factory=Counter)
    """Statuses of the unanswered calls; 0 where there was no reply."""

    @property
    def all_in_time(self) -> bool:
        """Return whether each call was answered before Infinity times out."""
        return not self.unread and self.late == 0

    @property
    def all_by_server(self) -> bool:
        """Whether none was lost."""
        return self.all_in_time and self.by_server == self.calls

    @property
    def all_by_guard(self) -> bool:
        """Whether each had the answer that was chosen for this hour."""
        return self.all_in_time and self.by_guard == self.calls

    @classmethod
    def of(cls, calls: Iterable[Call]) -> Self:
        """Count the calls; a reply that is no JSON answers none."""
        tally = cls()
        for call in calls:
            tally.calls += 1
            tally.longest = max(tally.longest, call.seconds)
            tally.late += call.is_late
            try:
                is_guard = json.loads(call.body)["decided_by"] == "guard"
            except ValueError:
                tally.unread[call.status] += 1
                continue
            tally.by_guard += is_guard
            tally.by_server += not is_guard
        return tally


class Callers:
    """Callers at work: half of them keep their connection, half take a new one for each call."""

    def __init__(self, port: int, number: int, pause: float = 0.0) -> None:
        self._port = port
        self._pause = pause
        self._calls: list[Call] = []
        self._left: float = math.inf
        self._tasks = [
            asyncio.create_task(self._ask(first, keeping=first % 2 == 0)) for first in range(number)
        ]

    async def further(self, number: int) -> tuple[list[Call], list[Call]]:
        """Start so many more calls; return the calls in progress now, and these."""
        before, ended = self._calls, len(self._calls)
        self._calls, self._left = [], number
        await asyncio.gather(*self._tasks)
        return before[ended:], self._calls

    async def stop(self) -> list[Call]:
        """Let the calls under way end; gives all calls."""
        self._left = 0
        await asyncio.gather(*self._tasks)
        return self._calls

    async def _ask(self, first: int, *, keeping: bool) -> None:
        connection = Connection(self._port)
        for target in itertools.islice(itertools.cycle(TARGETS.values()), first, None):
            if self._left <= 0:
                break
            self._left -= 1
            calls = self._calls
            calls.append(await connection.ask(target))
            if not keeping:
                connection.close()
            await asyncio.sleep(self._pause)
        connection.close()
