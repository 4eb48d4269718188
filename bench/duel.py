"""All contenders under load at once on one core, compared by CPU time per request.

Requests per second of different minutes cannot be compared on a shared machine. Contenders that
share a core in the same seconds share its noise; what is compared is the scheduler's account of
each one's CPU time over the calls it answered, and only within a round.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench import cpu, proof
from bench.auditfile import AuditFile
from bench.company import Contender
from bench.lab import Lab
from bench.load import Target
from bench.spread import Spread

_WARM_UP_SECONDS = 3
_SETTLE_SECONDS = 1
"""Seconds after the load in which calls are answered whose client has gone."""

Costs = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Duel:
    """CPU seconds per request of each contender in each round, in order of rounds."""

    costs: Costs

    def microseconds(self, name: str) -> float:
        """Median CPU time per request in microseconds: it tells as much of the machine."""
        return median(self.costs[name]) * 1e6

    def described(self, titles: Mapping[str, str]) -> str:
        """The microseconds of each contender named, for the reader who knows this machine."""
        return ", ".join(
            f"{title} {self.microseconds(name):.1f} µs" for name, title in titles.items()
        )

    def ratio(self, name: str, base: str) -> Spread:
        """What ``name`` costs in units of ``base``, paired by round."""
        pairs = zip(self.costs[name], self.costs[base], strict=True)
        return Spread.of([cost / unit for cost, unit in pairs])

    def surplus(self, name: str, over: str, base: str) -> Spread:
        """What ``name`` costs more than ``over``, in units of ``base``, paired by round."""
        rounds = zip(self.costs[name], self.costs[over], self.costs[base], strict=True)
        return Spread.of([(cost - less) / unit for cost, less, unit in rounds])


def fight(lab: Lab, contenders: Sequence[Contender]) -> Duel:
    """Prove, warm up, measure each round, prove again.

    :raises bench.proof.ProofFailed: when a contender did not do its work.
    :raises bench.load.LoadFailed: when a call failed.
    :raises bench.cpu.ThreadEnded: when CPU time could not be counted.
    """
    for one in contenders:
        proof.check_sample(one.server, one.traffic, lab.authorization)
    targets = [lab.target(one.server, one.traffic) for one in contenders]
    audits = {one.name: AuditFile(one.server.launch.audit) for one in contenders}
    warm_up = lab.load(targets, _WARM_UP_SECONDS)
    answered = Counter({name: totals.requests for name, totals in warm_up.items()})
    costs: dict[str, list[float]] = {one.name: [] for one in contenders}
    for number in range(1, lab.terms.rounds + 1):
        for name, (requests, seconds) in _round(lab, contenders, targets).items():
            answered[name] += requests
            costs[name].append(seconds / requests)
        lab.say(f"round {number}/{lab.terms.rounds}: {_latest(costs)}")
    time.sleep(_SETTLE_SECONDS)
    hung_up = lab.terms.connections * (lab.terms.rounds + 1)
    for one in contenders:
        if (audit := audits[one.name]).present:
            proof.check_audit(one.server, audit.grown(), answered[one.name], hung_up)
        proof.check_all(one.server, one.traffic, lab.authorization)
    return Duel(costs)


def alternate(lab: Lab, contenders: Sequence[Contender], warm_up: int = 10) -> Duel:
    """As ``fight``, with one server under load at a time, in turn.

    For servers whose run time compiles or collects in threads of its own: beside others on one
    core those starve. The rounds are short, so that the noise of the machine meets each alike.
    """
    for one in contenders:
        proof.check_sample(one.server, one.traffic, lab.authorization)
    targets = {one.name: lab.target(one.server, one.traffic) for one in contenders}
    for one in contenders:
        lab.load([targets[one.name]], warm_up)
    costs: dict[str, list[float]] = {one.name: [] for one in contenders}
    for number in range(1, lab.terms.rounds + 1):
        for one in contenders:
            measured = _round(lab, [one], [targets[one.name]])
            requests, seconds = measured[one.name]
            costs[one.name].append(seconds / requests)
        lab.say(f"round {number}/{lab.terms.rounds}: {_latest(costs)}")
    for one in contenders:
        proof.check_all(one.server, one.traffic, lab.authorization)
    return Duel(costs)


def _round(
    lab: Lab, contenders: Sequence[Contender], targets: list[Target]
) -> dict[str, tuple[int, float]]:
    before = {one.name: cpu.reading(one.server.pid) for one in contenders}
    totals = lab.load(targets, lab.terms.seconds)
    return {
        one.name: (
            totals[one.name].requests,
            cpu.spent(before[one.name], cpu.reading(one.server.pid)) / 1e9,
        )
        for one in contenders
    }


def _latest(costs: Costs) -> str:
    return "  ".join(f"{name} {each[-1] * 1e6:.1f} µs" for name, each in costs.items())
