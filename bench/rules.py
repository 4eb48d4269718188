"""Scenario with many rules: cost of a call, and of the search for the rule."""

import time
from collections.abc import Callable

from multidict import MultiDict

from bench import launches
from bench.comparison import compare, running_together
from bench.findings import Finding, Spread, goal
from bench.lab import Lab
from bench.toml import Table
from bench.traffic import TARGETS, Traffic, calls
from pexpolicy import ServiceConfigurationRequest
from pexpolicy.matching import Index, When, compile_when

FEW, MANY = 100, 10_000
_ASKED = 5_000
_REPEATS = 9
_USERS = ("room{:05}.x", "team{:05}.x", "xunit.{:05}", "user{:05}.x")
_SHAPES: tuple[Callable[[int], Table], ...] = (
    lambda n: {"local_alias": f"room{n:05}.x@example.com"},
    lambda n: {"local_alias": {"prefix": f"team{n:05}."}, "registered": False},
    lambda n: {"local_alias": {"suffix": f".{n:05}@example.com"}},
    lambda n: {"local_alias": {"user": f"user{n:05}.x"}, "remote_alias": {"host": "example.com"}},
)


def ten_thousand(lab: Lab) -> list[Finding]:
    """Compare a call with 10,000 rules to one with 100, over HTTP and without."""
    few, many = (
        (lab.ours(f"rules-{count}", _with_rules(count)), _rule_calls(count))
        for count in (FEW, MANY)
    )
    with running_together(lab, [few, many]) as contenders:
        comparison = compare(lab, contenders)
    names = [one.name for one in contenders]
    detail = comparison.describe({names[0]: "100 rules", names[1]: "10,000 rules"})
    flat = comparison.ratio(names[1], names[0])
    return [
        Finding(
            "rules", "a call with 10,000 rules over one with 100", flat, "x", goal(1.5), detail
        ),
        Finding("rules", "the search among 10,000", _search(MANY), "us", None, "CPU time"),
        Finding("rules", "the search among 100", _search(FEW), "us", None, "CPU time"),
    ]


def _search(count: int) -> Spread:
    """Measure microseconds of CPU time to parse an alias and find its rule."""
    index = Index((compile_when(When.model_validate(_SHAPES[n % 4](n))), n) for n in range(count))
    aliases = [_alias(n * max(1, count // _ASKED) % count) for n in range(_ASKED)]
    others = {"remote_alias": "a@example.com", "registered": "False"}
    queries = [MultiDict({"local_alias": alias, **others}) for alias in aliases]
    found = []
    for _ in range(_REPEATS):
        started = time.thread_time()
        for query in queries:
            index.first(ServiceConfigurationRequest(query))
        found.append((time.thread_time() - started) / len(queries) * 1e6)
    return Spread.of(found)


def _alias(number: int) -> str:
    """Return an alias that the rule with this number matches."""
    user = _USERS[number % 4].format(number)
    return f"{user}@example.com"


def _with_rules(count: int) -> Table:
    rules: list[Table] = [
        {
            "name": f"rule {n}",
            "endpoint": "service_configuration",
            "when": _SHAPES[n % 4](n),
            "then": {"result": {"name": f"Room {n:05}", "service_tag": "ruled"}},
        }
        for n in range(count)
    ]
    plugin: Table = {"priority": 1, "settings": {"rules": rules}}
    return launches.with_plugins(launches.shipped_config(), {"rules": plugin})


def _rule_calls(count: int) -> Traffic:
    """Return calls spread over all rules."""
    stride = max(1, count // TARGETS)

    def number(n: int) -> int:
        return n * stride % count

    return calls(lambda n: _alias(number(n)), lambda n: {"name": f"Room {number(n):05}"})
