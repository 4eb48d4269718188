"""Scenarios: servers, calls and the figures to reach."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from bench import conditions, launches, rooms, rules, startup
from bench.comparison import Comparison, compare, running_with_bare
from bench.findings import Finding, aim, goal
from bench.lab import Lab
from bench.toml import Table
from bench.traffic import ENGINEERING, PREPARED, Traffic, calls

_STARTS = 9
_ABSTAINING = 10


def self_check(lab: Lab) -> list[Finding]:
    """Compare the bare server with itself; if not 1.00, no figure of this run is valid."""
    traffic = calls(lambda _n: "engineering", lambda _n: {})
    launch = launches.bare(b'{"status": "success", "result": {}}', lab.folder, "again")
    with running_with_bare(lab, [(launch, traffic)]) as contenders:
        comparison = compare(lab, contenders)
    return [
        Finding("self-check", "bare aiohttp over itself", comparison.ratio("again", "bare"), "A")
    ]


def shipped(lab: Lab) -> list[Finding]:
    """Measure the shipped configuration with a room checked when the policy was built."""
    comparison = _compare(lab, [("shipped", launches.shipped_config(), PREPARED)])
    detail = comparison.describe({"bare": "bare", "shipped": "ours"})
    figure = comparison.ratio("shipped", "bare")
    return [Finding("shipped", "a prepared room", figure, "A", goal(2.8), detail)]


def ten_plugins(lab: Lab) -> list[Finding]:
    """Measure the cost of ten more ``async def`` plugins that are called first and abstain."""
    config = launches.shipped_config()
    ten: Mapping[str, Table] = {f"bench_abstain_{n}": {"priority": n} for n in range(_ABSTAINING)}
    with_ten = launches.with_plugins(config, ten)
    comparison = _compare(lab, [("two", config, PREPARED), ("twelve", with_ten, PREPARED)])
    figure = comparison.surplus("twelve", "two", "bare")
    detail = comparison.describe({"two": "without", "twelve": "with"})
    what = "ten abstaining async plugins more"
    return [Finding("ten-plugins", what, figure, "A", goal(0.35), detail)]


def one_adjuster(lab: Lab) -> list[Finding]:
    """Measure the cost of a plugin that changes a field of each decision, or leaves it as it is."""
    config = launches.shipped_config()
    changing, leaving = (
        launches.with_plugins(config, {"bench_adjust": {"settings": {"changes": changes}}})
        for changes in (True, False)
    )
    themed = calls(
        lambda _n: "engineering", lambda _n: {**ENGINEERING, "ivr_theme_name": "Company"}
    )
    comparison = _compare(
        lab,
        [
            ("without", config, PREPARED),
            ("leaving", leaving, PREPARED),
            ("changing", changing, themed),
        ],
    )
    titles = {"without": "without", "leaving": "leaves it", "changing": "changes it"}
    detail = comparison.describe(titles)
    left, changed = (
        comparison.surplus(name, "without", "bare") for name in ("leaving", "changing")
    )
    return [
        Finding("one-adjuster", "a plugin that leaves each decision", left, "A", aim(0.15), detail),
        Finding("one-adjuster", "a plugin that changes each decision", changed, "A", aim(0.35)),
    ]


def eight_fields(lab: Lab) -> list[Finding]:
    """Measure the additional cost of creating a decision of eight fields for each call."""
    return [_made(lab, "eight-fields", "eight", 0.4)]


def full_45_fields(lab: Lab) -> list[Finding]:
    """Measure the additional cost of creating a decision of 46 fields for each call."""
    return [_made(lab, "full-45-fields", "full", 1.0)]


def start_up(lab: Lab) -> list[Finding]:
    """Compare the time from spawn to the first 200 with a bare aiohttp program."""
    launch = lab.ours("starting", launches.shipped_config())
    with lab.serve(launch, PREPARED) as server:
        reply = server.ask(PREPARED.targets[0], lab.authorization)
    bare = launches.bare(reply.body, lab.folder)
    ours_s, bare_s = startup.startup_times(lab, (launch, bare), PREPARED, _STARTS)
    detail = f"bare {median(bare_s) * 1e3:.0f} ms, ours {median(ours_s) * 1e3:.0f} ms"
    figure = startup.ratio(ours_s, bare_s)
    return [Finding("start-up", "spawn to first answer", figure, "x", goal(2.0), detail)]


SCENARIOS: Mapping[str, Callable[[Lab], list[Finding]]] = {
    "shipped": shipped,
    "rooms": rooms.hundred_thousand,
    "rules": rules.ten_thousand,
    "million-rooms": rooms.million,
    "start-up": start_up,
    "ten-plugins": ten_plugins,
    "one-adjuster": one_adjuster,
    "eight-fields": eight_fields,
    "full-45-fields": full_45_fields,
    "latency": conditions.latency,
    "tls": conditions.tls,
    "new-connections": conditions.new_connections,
    "fsync": conditions.fsync,
    "self-check": self_check,
}
ON_REQUEST = ("million-rooms", "new-connections", "self-check")
DEFAULT = tuple(name for name in SCENARIOS if name not in ON_REQUEST)


def _compare(lab: Lab, entries: Sequence[tuple[str, Table, Traffic]]) -> Comparison:
    started = [(lab.ours(name, config), traffic) for name, config, traffic in entries]
    with running_with_bare(lab, started) as contenders:
        return compare(lab, contenders)


def _made(lab: Lab, scenario: str, fields: str, most: float) -> Finding:
    traffic = calls(lambda _n: "engineering", lambda _n: {"service_tag": "engineering-room"})
    config = launches.shipped_config()
    prepared, per_call = (
        launches.with_plugins(
            config,
            {"bench_made": {"priority": 1, "settings": {"fields": fields, "prepared": when}}},
        )
        for when in (True, False)
    )
    comparison = _compare(lab, [("prepared", prepared, traffic), ("per-call", per_call, traffic)])
    figure = comparison.surplus("per-call", "prepared", "bare")
    detail = comparison.describe({"prepared": "prepared", "per-call": "per call"})
    return Finding(scenario, "created per call over prepared", figure, "A", goal(most), detail)
