"""Scenarios with many rooms: cost of a call, and memory."""

from bench import cpu, launches
from bench.comparison import Contender, compare, running_with_bare
from bench.findings import Finding, Limit, goal, single
from bench.lab import Lab
from bench.toml import Table
from bench.traffic import Traffic, calls

FEW, MANY, MILLION = 10, 100_000, 1_000_000
_MB = 1e6


def hundred_thousand(lab: Lab) -> list[Finding]:
    """Compare cost per call and memory of 100,000 rooms and of 10."""
    return _many(lab, "rooms", MANY, goal(80))


def million(lab: Lab) -> list[Finding]:
    """Measure the same with 1,000,000 rooms."""
    return _many(lab, "million-rooms", MILLION, None)


def _many(lab: Lab, scenario: str, count: int, most: Limit | None) -> list[Finding]:
    few, many = (
        (lab.ours(f"rooms-{number}", with_rooms(number)), room_calls(number))
        for number in (FEW, count)
    )
    with running_with_bare(lab, [few, many]) as contenders:
        first = _memory(contenders)
        comparison = compare(lab, contenders)
        then = _memory(contenders)
    names = [one.name for one in contenders[:2]]
    detail = comparison.describe({names[0]: "10 rooms", names[1]: f"{count:,} rooms"})
    flat = comparison.ratio(names[1], names[0])
    surplus = max(first[1].pss - first[0].pss, then[1].pss - then[0].pss) / _MB
    whole = max(first[1].pss, then[1].pss) / _MB
    what = f"memory of {count:,} rooms"
    memory = (
        Finding(scenario, what, single(surplus), "MB", most, f"PSS; the whole server {whole:.0f}")
        if most is not None
        else Finding(scenario, f"{what}, the whole server", single(whole), "MB", goal(700), "PSS")
    )
    title = f"{count:,} rooms over 10 rooms"
    return [Finding(scenario, title, flat, "x", goal(1.10), detail), memory]


def with_rooms(count: int) -> Table:
    """Return the shipped configuration with ``count`` rooms."""
    tables = {
        f"sip:room{n:07}@example.com": {"name": f"Room {n:07}", "service_tag": f"tag-{n:07}"}
        for n in range(count)
    }
    room_plugin: Table = {"priority": 20, "settings": {"rooms": tables}}
    return launches.with_plugins(launches.shipped_config(), {"rooms": room_plugin})


def room_calls(count: int) -> Traffic:
    """Return calls spread over all rooms."""
    stride = max(1, count // 4096)

    def number(n: int) -> str:
        return f"{n * stride % count:07}"

    return calls(
        lambda n: f"sip:room{number(n)}@example.com",
        lambda n: {"name": f"Room {number(n)}", "service_tag": f"tag-{number(n)}"},
    )


def _memory(contenders: list[Contender]) -> tuple[cpu.Memory, cpu.Memory]:
    few, many = (cpu.memory(one.server.pid) for one in contenders[:2])
    return few, many
