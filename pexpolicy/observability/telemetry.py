"""The telemetry of one worker: counters, nodes and gauges."""

from __future__ import annotations

from pexpolicy.chain.background import ShadowLog
from pexpolicy.models.call_facts import CallFacts
from pexpolicy.models.outcome import Outcome
from pexpolicy.observability.counters import CallCounters
from pexpolicy.observability.gauges import GaugeSampler
from pexpolicy.observability.health import StateSources
from pexpolicy.observability.nodes import Nodes, address_of
from pexpolicy.observability.shared_memory import SharedCounters
from pexpolicy.policy import Answer, Policy


class Telemetry:
    """The counters, nodes and gauges of a worker, in the shared memory of its server.

    By default the server is a single process. Enter ``sampler`` while the worker serves.
    """

    def __init__(
        self,
        board: SharedCounters | None = None,
        slot: int = 0,
        sources: StateSources | None = None,
    ) -> None:
        self.board = board or SharedCounters()
        self.sources = sources or StateSources()
        counters = self.board.claim(slot)
        self._counts = CallCounters(counters)
        self._nodes = Nodes(counters)
        self.sampler = GaugeSampler(counters, self.sources)
        self._shadow_log: _CountingShadowLog | None = None

    def use_policy(self, policy: Policy) -> None:
        """Count for another policy from now on."""
        deciding = {link.plugin for chain in policy.chains.values() for link in chain.links}
        shadows = {p.name for p in policy.plugins if p.table.mode == "shadow"}
        observers = [queue.plugin for queue in policy.observers]
        budget = policy.settings.server.budget
        self._counts.allocate_for_policy(policy.links(), shadows, budget, observers)
        self.sampler.use_policy(
            policy.config_hash,
            {
                name: [
                    link.breaker
                    for chain in policy.chains.values()
                    for link in chain.links
                    if link.plugin == name and link.breaker is not None
                ]
                for name in deciding
            },
            policy.lifespans,
            {
                *(plugin.name for plugin in policy.plugins),
                *(f"sources.{source.name}" for source in policy.sources),
            },
            policy.observers,
        )

    def answered(self, call: CallFacts, answer: Answer) -> None:
        """Count a call."""
        self._counts.answered(answer.outcome, answer.reply.action, call.seconds())
        self._nodes.called(call.params.get("node_ip"), call.peer)

    def count_fallback(self, endpoint: str, cause: str) -> None:
        """Count a call with a fallback that no plugin caused."""
        self._counts.count_fallback(endpoint, cause)

    def refused(self, reason: str, peer: str | None) -> None:
        """Count a request that was refused before any plugin was asked."""
        self._counts.refused(reason)
        self._nodes.refused(address_of(None, peer), reason)

    def recorded(self) -> None:
        """Count an audit record of refusals."""
        self._counts.recorded()

    def observed(self, plugin: str, outcome: str, count: int = 1) -> None:
        """Count what became of notifying an observer."""
        self._counts.observed(plugin, outcome, count)

    def counting(self, audit: ShadowLog) -> ShadowLog:
        """Return an audit of shadow decisions that also counts them."""
        log = self._shadow_log
        if log is None or log.audit is not audit:
            log = self._shadow_log = _CountingShadowLog(audit, self._counts)
        return log


class _CountingShadowLog:
    def __init__(self, audit: ShadowLog, counts: CallCounters) -> None:
        self.audit = audit
        self._counts = counts

    def shadow(
        self, actual: Outcome, shadow: Outcome, config_hash: str, *, differs: bool | None
    ) -> None:
        """Count a shadow decision, and write its line."""
        self._counts.shadowed(shadow, differs=differs)
        self.audit.shadow(actual, shadow, config_hash, differs=differs)
