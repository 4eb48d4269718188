"""The scenarios: what is served and asked, and which figure has to be reached."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from bench import conditions, contests, launches, rooms, rules, startup, subnets
from bench.company import beside_bare
from bench.duel import Duel, fight
from bench.findings import Finding, aim, goal
from bench.lab import Lab
from bench.toml import Table
from bench.traffic import PER_CALL, PREPARED, Traffic, calls

_STARTS = 9
_ABSTAINING = 10


def self_check(lab: Lab) -> list[Finding]:
    """The bare server against itself: 1.00, or no other figure of this run can be trusted."""
    traffic = calls(lambda _n: "engineering", lambda _n: {})
    launch = launches.bare(b'{"status": "success", "result": {}}', lab.folder, "again")
    with beside_bare(lab, [(launch, traffic)]) as contenders:
        duel = fight(lab, contenders)
    return [Finding("self-check", "bare aiohttp over itself", duel.ratio("again", "bare"), "A")]


def shipped(lab: Lab) -> list[Finding]:
    """The shipped configuration answering with a room checked when the policy was built."""
    duel = _duel(lab, [("shipped", launches.shipped_config(), PREPARED)])
    detail = duel.described({"bare": "bare", "shipped": "ours"})
    figure = duel.ratio("shipped", "bare")
    return [Finding("shipped", "a prepared room", figure, "A", goal(2.8), detail)]


def plain_query(lab: Lab) -> list[Finding]:
    """The same as ``shipped`` for query values that nobody escaped."""
    duel = _duel(lab, [("plain-query", launches.shipped_config(), PREPARED.unescaped())])
    detail = duel.described({"bare": "bare", "plain-query": "ours"})
    figure = duel.ratio("plain-query", "bare")
    return [Finding("plain-query", "a prepared room, query not escaped", figure, "A", None, detail)]


def per_call(lab: Lab) -> list[Finding]:
    """The shipped configuration answering with the default room, made anew for each call."""
    duel = _duel(lab, [("per-call", launches.shipped_config(), PER_CALL)])
    detail = duel.described({"bare": "bare", "per-call": "ours"})
    figure = duel.ratio("per-call", "bare")
    return [Finding("per-call", "a room made for the call", figure, "A", aim(2.94), detail)]


def ten_plugins(lab: Lab) -> list[Finding]:
    """What ten more plugins cost that are asked first and abstain, all of them ``async def``."""
    config = launches.shipped_config()
    ten: Mapping[str, Table] = {f"bench_abstain_{n}": {"priority": n} for n in range(_ABSTAINING)}
    with_ten = launches.with_plugins(config, ten)
    duel = _duel(lab, [("two", config, PREPARED), ("twelve", with_ten, PREPARED)])
    figure = duel.surplus("twelve", "two", "bare")
    detail = duel.described({"two": "without", "twelve": "with"})
    what = "ten abstaining async plugins more"
    return [Finding("ten-plugins", what, figure, "A", goal(0.35), detail)]


def eight_fields(lab: Lab) -> list[Finding]:
    """What a decision of eight fields costs more when made anew for each call."""
    return [_made(lab, "eight-fields", "eight", 0.3)]


def full_45_fields(lab: Lab) -> list[Finding]:
    """What a decision of 46 fields costs more when made anew for each call."""
    return [_made(lab, "full-45-fields", "full", 0.6)]


def start_up(lab: Lab) -> list[Finding]:
    """Spawn to first 200, against a bare aiohttp program."""
    launch = lab.ours("starting", launches.shipped_config())
    with lab.serve(launch, PREPARED) as server:
        reply = server.ask(PREPARED.targets[0], lab.authorization)
    bare = launches.bare(reply.body, lab.folder)
    ours_s, bare_s = startup.first_answers(lab, (launch, bare), PREPARED, _STARTS)
    detail = f"bare {median(bare_s) * 1e3:.0f} ms, ours {median(ours_s) * 1e3:.0f} ms"
    figure = startup.ratio(ours_s, bare_s)
    return [Finding("start-up", "spawn to first answer", figure, "x", goal(2.0), detail)]


SCENARIOS: Mapping[str, Callable[[Lab], list[Finding]]] = {
    "shipped": shipped,
    "per-call": per_call,
    "rooms": rooms.hundred_thousand,
    "subnets": subnets.hundred_thousand,
    "rules": rules.ten_thousand,
    "gc-pause": rooms.gc_pause,
    "million-rooms": rooms.million,
    "start-up": start_up,
    "ten-plugins": ten_plugins,
    "eight-fields": eight_fields,
    "full-45-fields": full_45_fields,
    "peers": contests.peers,
    "express": contests.express,
    "latency": contests.latency,
    "unconfigured": conditions.unconfigured,
    "tls": conditions.tls,
    "new-connections": conditions.new_connections,
    "fsync": conditions.fsync,
    "plain-query": plain_query,
    "self-check": self_check,
}
ON_REQUEST = ("million-rooms", "new-connections", "plain-query", "self-check")
DEFAULT = tuple(name for name in SCENARIOS if name not in ON_REQUEST)


def _duel(lab: Lab, entries: Sequence[tuple[str, Table, Traffic]]) -> Duel:
    started = [(lab.ours(name, config), traffic) for name, config, traffic in entries]
    with beside_bare(lab, started) as contenders:
        return fight(lab, contenders)


def _made(lab: Lab, scenario: str, fields: str, most: float) -> Finding:
    traffic = calls(lambda _n: "engineering", lambda _n: {"service_tag": "engineering-room"})
    config = launches.shipped_config()
    prepared, anew = (
        launches.with_plugins(
            config,
            {"bench_made": {"priority": 1, "settings": {"fields": fields, "prepared": when}}},
        )
        for when in (True, False)
    )
    duel = _duel(lab, [("prepared", prepared, traffic), ("anew", anew, traffic)])
    figure = duel.surplus("anew", "prepared", "bare")
    detail = duel.described({"prepared": "prepared", "anew": "anew"})
    return Finding(scenario, "made anew over prepared", figure, "A", goal(most), detail)
