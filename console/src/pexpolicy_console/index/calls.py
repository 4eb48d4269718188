"""Calls: the requests of one call are one, which has the worst result of them."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

import msgspec

from pexpolicy_console.index.lines import AuditLine, Facts, call_keys

SAME_CALL_MS = 120_000
"""Between the first request of a call and its other ones, at most."""
_OF_RESULT = (Facts._fields.index("reason"), Facts._fields.index("plugin"))
_FIRST = tuple(place for place in range(len(Facts._fields)) if place not in _OF_RESULT)
BEGINNING = ("service_configuration", "participant_properties", "media_location")
"""Endpoints whose requests are of calls; others, such as that of an avatar, may belong to one."""


class Call(msgspec.Struct, gc=False, array_like=True):
    """A call: ``id`` is the number of its first line, ``at`` the time of that in milliseconds."""

    id: int
    at: int
    instance: str
    result: int
    """The worst of its requests: the place in ``RESULTS``."""
    facts: list[str]
    """The first of each of ``Facts`` that is known; reason and plugin are those of the result."""
    keys: list[str]


class OpenCalls:
    """The calls to which further requests may belong, by the order of the lines alone."""

    def __init__(self, calls: Iterable[Call] = ()) -> None:
        self.ended: list[Call] = []
        """Calls that have ended since they were taken from here."""
        self.changed: dict[int, Call] = {}
        """Calls that are open and were changed, likewise."""
        self._by_key: dict[str, Call] = {}
        self._by_instance: defaultdict[str, deque[Call]] = defaultdict(deque)
        for call in calls:
            self._begin(call)

    def __iter__(self) -> Iterator[Call]:
        return (call for calls in self._by_instance.values() for call in calls)

    def find(self, keys: Iterable[str], at: int) -> Call | None:
        """Return the open call of a line with these keys."""
        for key in keys:
            call = self._by_key.get(key)
            if call is not None and abs(at - call.at) <= SAME_CALL_MS:
                return call
        return None

    def add(self, number: int, at: int, line: AuditLine, facts: Facts, result: int) -> Call:
        """Return the call of a request: an open one, or a new one."""
        self._end(line.instance, at)
        keys = call_keys(line)
        call = self.find(keys, at)
        if call is None:
            call = Call(number, at, line.instance, result, [*facts], [])
            self._begin(call)
        else:
            for place in _FIRST:
                call.facts[place] = call.facts[place] or facts[place]
            if result > call.result:
                call.result = result
                for place in _OF_RESULT:
                    call.facts[place] = facts[place]
        self.changed[call.id] = call
        for key in keys:
            other = self._by_key.get(key)
            if other is not call:
                if other is not None:
                    other.keys.remove(key)
                    self.changed[other.id] = other
                self._by_key[key] = call
                call.keys.append(key)
        return call

    def _begin(self, call: Call) -> None:
        self._by_instance[call.instance].append(call)
        self._by_key |= dict.fromkeys(call.keys, call)

    def _end(self, instance: str, at: int) -> None:
        calls = self._by_instance[instance]
        while calls and abs(at - calls[0].at) > SAME_CALL_MS:
            call = calls.popleft()
            for key in call.keys:
                del self._by_key[key]
            self.changed.pop(call.id, None)
            self.ended.append(call)


encode_call = msgspec.json.Encoder().encode
decode_call = msgspec.json.Decoder(Call).decode
