"""Time from being spawned to the first 200, against a bare aiohttp program."""

from bench.lab import Lab
from bench.servers import Launch
from bench.spread import Spread
from bench.traffic import Traffic


def first_answers(
    lab: Lab, launches: tuple[Launch, Launch], traffic: Traffic, times: int
) -> tuple[list[float], list[float]]:
    """Seconds to the first answer of two programs started in turn, ``times`` each.

    Each is started once more beforehand, so that no run pays for compiling modules.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    for attempt in range(times + 1):
        for launch, seconds in zip(launches, taken, strict=True):
            with lab.serve(launch, traffic) as server:
                seconds.append(server.first_answer)
        if attempt == 0:
            for seconds in taken:
                seconds.clear()
    return taken


def ratio(ours: list[float], bare: list[float]) -> Spread:
    """Ours over the bare one, paired by turn."""
    return Spread.of([a / b for a, b in zip(ours, bare, strict=True)])
