"""Comparison of servers under load on one core by CPU time per request.

Requests per second from different minutes cannot be compared on a shared machine. Contenders that
share a core at the same time share its noise. The comparison uses the scheduler's account of their
CPU time over the calls they answered, and only within a round.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

from bench import cpu, launches, verification
from bench.findings import Spread
from bench.lab import Lab
from bench.load import Target
from bench.servers import Launch, Server
from bench.traffic import Traffic
from bench.verification import AuditLineCounter

_WARM_UP_SECONDS = 3

Costs = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Contender:
    """A running server and its traffic."""

    server: Server
    traffic: Traffic

    @property
    def name(self) -> str:
        """Return the name of the launch."""
        return self.server.launch.name


@contextmanager
def running_together(
    lab: Lab, entries: Sequence[tuple[Launch, Traffic]]
) -> Iterator[list[Contender]]:
    """Run the servers of ``entries`` at the same time."""
    with ExitStack() as stack:
        yield [
            Contender(stack.enter_context(lab.serve(launch, traffic)), traffic)
            for launch, traffic in entries
        ]


@contextmanager
def running_with_bare(
    lab: Lab, entries: Sequence[tuple[Launch, Traffic]]
) -> Iterator[list[Contender]]:
    """Run the servers of ``entries``, and last a bare one that sends the first one's reply."""
    with running_together(lab, entries) as contenders:
        traffic = entries[0][1].with_constant_result()
        reply = contenders[0].server.ask(traffic.targets[0], lab.authorization)
        bare = launches.bare(reply.body, lab.folder)
        with lab.serve(bare, traffic) as server:
            yield [*contenders, Contender(server, traffic)]


@dataclass(frozen=True)
class Comparison:
    """CPU seconds per request of each contender in each round, in order of rounds."""

    costs: Costs

    def microseconds(self, name: str) -> float:
        """Return the median CPU time per request in microseconds, which depends on the machine."""
        return median(self.costs[name]) * 1e6

    def describe(self, titles: Mapping[str, str]) -> str:
        """Format the microseconds of each contender, for readers who know the machine."""
        return ", ".join(
            f"{title} {self.microseconds(name):.1f} µs" for name, title in titles.items()
        )

    def ratio(self, name: str, base: str) -> Spread:
        """Return the cost of ``name`` in units of ``base``, paired by round."""
        pairs = zip(self.costs[name], self.costs[base], strict=True)
        return Spread.of([cost / unit for cost, unit in pairs])

    def surplus(self, name: str, over: str, base: str) -> Spread:
        """Return the cost of ``name`` minus ``over`` in units of ``base``, paired by round."""
        rounds = zip(self.costs[name], self.costs[over], self.costs[base], strict=True)
        return Spread.of([(cost - less) / unit for cost, less, unit in rounds])


def compare(lab: Lab, contenders: Sequence[Contender]) -> Comparison:
    """Verify the servers, warm up, measure each round, verify again.

    :raises bench.verification.VerificationError: if a contender did not do its work.
    :raises bench.load.LoadFailed: if a call failed.
    :raises bench.cpu.ThreadEnded: if CPU time could not be counted.
    """
    for one in contenders:
        verification.check_sample(one.server, one.traffic, lab.authorization)
    targets = [lab.target(one.server, one.traffic) for one in contenders]
    audits = {one.name: AuditLineCounter(one.server.launch.audit) for one in contenders}
    warm_up = lab.load(targets, _WARM_UP_SECONDS)
    answered = Counter({name: totals.requests for name, totals in warm_up.items()})
    costs: dict[str, list[float]] = {one.name: [] for one in contenders}
    for number in range(1, lab.terms.rounds + 1):
        for name, (requests, seconds) in _round(lab, contenders, targets).items():
            answered[name] += requests
            costs[name].append(seconds / requests)
        lab.log(f"round {number}/{lab.terms.rounds}: {_latest(costs)}")
    aborted = lab.terms.connections * (lab.terms.rounds + 1)
    for one in contenders:
        if (audit := audits[one.name]).present:
            verification.check_audit(one.server, audit.added(), answered[one.name], aborted)
        verification.check_all(one.server, one.traffic, lab.authorization)
    return Comparison(costs)


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
