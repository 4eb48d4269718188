"""Start-up time to the first 200, compared with a bare aiohttp program."""

from bench.findings import Spread
from bench.lab import Lab
from bench.servers import Launch
from bench.traffic import Traffic


def startup_times(
    lab: Lab, launches: tuple[Launch, Launch], traffic: Traffic, times: int
) -> tuple[list[float], list[float]]:
    """Measure seconds to the first reply of two programs started in turn, ``times`` each.

    Each is started once before, so that no measured start compiles modules.
    """
    durations: tuple[list[float], list[float]] = ([], [])
    for attempt in range(times + 1):
        for launch, seconds in zip(launches, durations, strict=True):
            with lab.serve(launch, traffic) as server:
                seconds.append(server.first_answer)
        if attempt == 0:
            for seconds in durations:
                seconds.clear()
    return durations


def ratio(ours: list[float], bare: list[float]) -> Spread:
    """Return the ratio of ours to the bare one, paired by turn."""
    return Spread.of([a / b for a, b in zip(ours, bare, strict=True)])
