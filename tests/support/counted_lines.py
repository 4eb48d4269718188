"""The figures of the console, counted of the lines themselves as its README defines them."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from functools import cached_property
from typing import Any

Event = dict[str, Any]
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
OF_CALLS = ("service_configuration", "participant_properties", "media_location")
WORDS = ("accepted", "refused", "failed", "")
"""Of results; the last one is that of what is no answer to a request."""
KINDS = ("room", "location", "protocol", "tenant", "reason", "plugin", "node", "instance", "policy")
FAULTS = ("failed", "timed_out", "invalid", "busy", "skipped")
SAME_CALL = 2 * MINUTE


@dataclass(eq=False)
class Line:
    """A line, its time in milliseconds, and the call that it is of."""

    event: Event
    at: int
    call: "Call | None" = None

    @property
    def kind(self) -> str:
        return str(self.event["event"])

    @property
    def server(self) -> str:
        return str(self.event.get("instance", ""))

    @property
    def asked(self) -> Mapping[str, str]:
        return self.event.get("request") or {}

    @property
    def steps(self) -> Sequence[Mapping[str, Any]]:
        return [*self.event.get("steps", ())]

    @property
    def change(self) -> str:
        """A reload, a refused one, a start or an end; empty for others."""
        if self.kind in ("reload", "end"):
            return "refused" if "error" in self.event else self.kind
        return "start" if self.event["seq"] == 1 else ""

    @cached_property
    def result(self) -> int:
        """Its place in ``WORDS``; -1 for what is no answer to a request."""
        if self.kind != "decision" or self.event["action"] != "reject":
            return -(self.kind != "decision")
        mine = [s["outcome"] for s in self.steps if s["plugin"] == self.event["decided_by"]]
        return 2 if mine and mine[-1] in FAULTS else 1

    @cached_property
    def values(self) -> dict[str, str]:
        """What it is counted and filtered by; without what it has not."""
        event, is_service = self.event, self.event.get("endpoint") == OF_CALLS[0]
        sent, named = event.get("sent") or {}, self.asked.get("service_name")
        known = {
            "room": sent.get("name") if is_service else named,
            "tenant": "acme" if self.called.endswith("@acme.example") else "",
            "node": self.asked.get("node_ip") or event.get("peer"),
            "policy": event.get("policy_hash"),
            "result": WORDS[self.result],
            "rule": (event.get("reason") or "").partition("rule ")[2].partition(": ")[0],
            "plugin": event.get("decided_by"),
            **{name: self.asked.get(name) for name in ("location", "protocol")},
            **{name: event.get(name) for name in ("reason", "instance", "endpoint", "action")},
        }
        return {name: value for name, value in known.items() if value}

    @property
    def called(self) -> str:
        return bare(self.asked.get("local_alias") or self.asked.get("alias") or "")

    @property
    def callers(self) -> list[str]:
        names = ("remote_alias", "registration_alias")
        return [bare(self.asked.get(name, "")) for name in names]

    @property
    def keys(self) -> Iterator[tuple[str, ...]]:
        """What the requests of one call have in common."""
        asked = self.asked
        yield from ((asked[name],) for name in ("call_uuid", "request_id") if name in asked)
        caller = asked.get("remote_alias") or asked.get("remote_display_name")
        if self.called and caller:
            yield self.called, bare(caller), asked.get("remote_address", "")


@dataclass(eq=False)
class Call:
    """The requests of one call."""

    lines: list[Line] = field(default_factory=list)

    @property
    def at(self) -> int:
        return self.lines[0].at

    @property
    def result(self) -> int:
        return max(one.result for one in self.lines)

    def value(self, kind: str) -> str:
        """Return the first known value; reason and plugin are those of the worst request."""
        worst = [one for one in self.lines if one.result == self.result]
        known = worst[:1] if kind in ("reason", "plugin") else self.lines
        return next((one.values[kind] for one in known if kind in one.values), "")


@dataclass
class Tally:
    """What a plugin did: outcome and milliseconds of each step."""

    steps: Sequence[tuple[str, float]]
    differences: int
    """Of the answers of a shadow."""

    def of(self, *outcomes: str) -> int:
        return sum(outcome in outcomes for outcome, _ in self.steps)

    @property
    def asked(self) -> int:
        return len(self.steps) - self.of("skipped")

    @property
    def failed(self) -> int:
        return self.of(*FAULTS) - self.of("skipped")

    def rank(self, share: float, *outcomes: str) -> float | None:
        names = outcomes or {outcome for outcome, _ in self.steps} - {"skipped"}
        return rank((ms for outcome, ms in self.steps if outcome in names), share)


class Count:
    """All that is counted of lines, each time until ``now``, in milliseconds."""

    def __init__(self, events: Iterable[Event], now: int, zone: tzinfo) -> None:
        self.now, self.zone, self.calls = now, zone, list[Call]()
        self.lines = [Line(one, milliseconds(one["timestamp"])) for one in events]
        self.first = min(line.at for line in self.lines)
        self.changes = [line for line in self.lines if line.change]
        latest, now_of = dict[tuple[str, ...], Call](), dict[str, int]()
        for line in self.lines:
            is_of_call = line.kind == "decision" and line.event["endpoint"] in OF_CALLS
            now_of |= {line.server: line.at} if is_of_call else {}
            known = (latest[key] for key in line.keys if key in latest)
            # A call is over as soon as its server has answered one that is too late for it.
            ages = (
                (one, (line.at - one.at, now_of[one.lines[0].server] - one.at)) for one in known
            )
            near = (one for one, (age, old) in ages if max(abs(age), old) <= SAME_CALL)
            line.call = next(near, None)
            if is_of_call:
                if line.call is None:
                    line.call = Call()
                    self.calls.append(line.call)
                line.call.lines.append(line)
                latest |= dict.fromkeys(line.keys, line.call)

    def marks(self, start: int) -> list[Line]:
        """Return the changes of a chart; equal ones of a minute are one."""
        found: dict[object, Line] = {}
        for one in self.changes:
            found.setdefault((one.at // MINUTE, one.change, one.event["policy_hash"]), one)
        return [one for one in found.values() if one.at >= start]

    def stopped(self) -> list[tuple[int, int]]:
        """Return the periods in which no server ran."""
        known = [*(one.lines[0] for one in self.calls), *self.changes]
        servers = {one.server for one in known}
        ends, found = dict[str, int](), list[tuple[int, int]]()
        for one in self.changes:
            if one.change == "end":
                ends.setdefault(one.server, one.at)
            else:
                found += [(max(ends.values()), one.at)] if len(ends) == len(servers) else []
                ends.pop(one.server, None)
        return [*found, (max(ends.values()), self.now)] if len(ends) == len(servers) else found

    def between(self, start: int, end: int) -> list[int]:
        """Return the calls of a period that were accepted, refused and failed."""
        found = Counter(one.result for one in self.calls if start <= one.at < end)
        return [found[result] for result in range(3)]

    def _valued(self, kind: str) -> Iterator[tuple[str, Call | Line]]:
        """Yield each call with its value of a kind; each request with its rule."""
        if kind == "rule":
            yield from ((one.values.get(kind, ""), one) for one in self.lines if one.result >= 0)
        else:
            yield from ((one.value(kind), one) for one in self.calls)

    def by(self, kind: str, start: int, end: int) -> dict[str, list[int]]:
        """Return likewise those of each value of a kind."""
        found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for value, one in self._valued(kind):
            if (value or kind == "all") and start <= one.at < end:
                found[value][one.result] += 1
        return found

    def last(self, kind: str, value: str) -> int:
        """Return the time of the last one with a value."""
        return max(one.at for known, one in self._valued(kind) if known == value)

    def matching(self, query: Mapping[str, str]) -> list[Line]:
        """Return the lines that filters match."""
        plugin = query.get("plugin")
        tests: dict[str, Callable[[Line, str], bool]] = {
            "since": lambda one, text: began(one) >= milliseconds(text),
            "until": lambda one, text: began(one) < milliseconds(text),
            "slower": lambda one, text: one.event.get("ms", 0) >= float(text),
            "plugin": lambda one, text: any(step["plugin"] == text for step in one.steps),
            "outcome": lambda one, text: any(
                step["outcome"] == text and plugin in (None, step["plugin"]) for step in one.steps
            ),
            "event": lambda one, text: one.kind == text,
            "decided_by": lambda one, text: one.values.get("plugin") == text,
            "caller": lambda one, text: text in one.callers,
            "requests": lambda *_: True,
        }

        def began(one: Line) -> int:
            return one.at if "requests" in query or one.call is None else one.call.at

        def equals(one: Line, name: str, text: str) -> bool:
            return tests[name](one, text) if name in tests else one.values.get(name) == text

        return [one for one in self.lines if all(equals(one, *pair) for pair in query.items())]

    def steps(self, plugin: str, start: int, end: int) -> list[tuple[Line, Mapping[str, Any]]]:
        """Return each step of a plugin in a period with its line."""
        lines = [line for line in self.lines if start <= line.at < end]
        return [(line, step) for line in lines for step in line.steps if step["plugin"] == plugin]

    def tally(self, span: str, plugin: str, endpoint: str = "") -> Tally:
        """Count what a plugin did in a span, all or for one kind of request."""
        found = self.steps(plugin, *self.span_of_steps(span))
        mine = [one for one in found if endpoint in ("", one[0].event["endpoint"])]
        differences = sum(bool(line.event.get("differs")) for line, _ in mine)
        return Tally([(step["outcome"], step["ms"]) for _, step in mine], differences)

    def days(self, count: int, parts: int = 1) -> list[int]:
        """Return the moments between days of the zone, or parts of them; today is the last day."""
        today = datetime.combine(datetime.fromtimestamp(self.now / 1000, self.zone), time())
        clocks = (today + timedelta(1 - count + n / parts) for n in range(count * parts + 1))
        return [int(one.replace(tzinfo=self.zone).timestamp()) * 1000 for one in clocks]

    def columns(self, span: str) -> list[int]:
        """Return the moments between the columns of a chart: the last one holds ``now``."""
        if span == "14d":
            return self.days(14, 4)
        step, count = (MINUTE, 60) if span == "1h" else (15 * MINUTE, 96)
        end = (self.now // step + 1) * step
        return [end - step * ago for ago in range(count, -1, -1)]

    def span_of_steps(self, span: str) -> tuple[int, int]:
        """Return the minutes of an hour up to now, or the hours that have those of more."""
        end = (self.now // MINUTE + 1) * MINUTE
        start = end - {"1h": HOUR, "24h": DAY, "14d": 14 * DAY}[span]
        return (start, end) if span == "1h" else (start // HOUR * HOUR, -(-end // HOUR) * HOUR)


def bare(alias: str) -> str:
    return alias.lower().removeprefix("sip:")


def milliseconds(timestamp: str) -> int:
    """Return a time as milliseconds since 1970."""
    moment = datetime.fromisoformat(timestamp) - datetime(1970, 1, 1, tzinfo=UTC)
    return moment // timedelta(milliseconds=1)


def rank(durations: Iterable[float], share: float) -> float | None:
    """Return the duration that so large a share of all does not exceed; ``None`` without any."""
    found = sorted(durations)
    return found[max(math.ceil(share * len(found)) - 1, 0)] if found else None
