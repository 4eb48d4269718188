"""All that one worker counts and knows of itself."""

from __future__ import annotations

from pexpolicy.chain.background import ShadowLog
from pexpolicy.models.outcome import Outcome
from pexpolicy.models.request import Params
from pexpolicy.observability.counters import CallCounters
from pexpolicy.observability.gauges import GaugeSampler
from pexpolicy.observability.health import StateSources
from pexpolicy.observability.nodes import Nodes, address_of
from pexpolicy.observability.shared_memory import SharedCounters
from pexpolicy.policy import Answer, Policy


class Telemetry:
    """The counters, the nodes and the gauges of a worker, on the board of its server.

    By default the server is this one process. Enter ``sampler`` while the worker serves.
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
        """Count for a policy that serves from now on."""
        deciding = {link.plugin for chain in policy.chains.values() for link in chain.links}
        shadows = {p.name for p in policy.plugins if p.table.mode == "shadow"}
        self._counts.allocate_for_policy(policy.links(), shadows, policy.settings.server.budget)
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
        )

    def answered(self, answer: Answer, params: Params, peer: str | None, seconds: float) -> None:
        """Note a call; ``seconds`` is how long it took."""
        self._counts.answered(answer.outcome, answer.reply.action, seconds)
        self._nodes.called(params.get("node_ip"), peer)

    def count_fallback(self, endpoint: str, cause: str) -> None:
        """Note a call whose answer is not that of its plugins, though each of them was heard."""
        self._counts.count_fallback(endpoint, cause)

    def refused(self, reason: str, peer: str | None) -> None:
        """Note a request that did not get as far as the plugins."""
        self._counts.refused(reason)
        self._nodes.refused(address_of(None, peer), reason)

    def recorded(self) -> None:
        """Note the record of refusals."""
        self._counts.recorded()

    def counting(self, audit: ShadowLog) -> ShadowLog:
        """The audit of shadows, each of which is counted too."""
        beside = self._shadow_log
        if beside is None or beside.audit is not audit:
            beside = self._shadow_log = _CountingShadowLog(audit, self._counts)
        return beside


class _CountingShadowLog:
    def __init__(self, audit: ShadowLog, counts: CallCounters) -> None:
        self.audit = audit
        self._counts = counts

    def shadow(
        self, actual: Outcome, shadow: Outcome, config_hash: str, *, differs: bool | None
    ) -> None:
        """Count the shadow, and write its line."""
        self._counts.shadowed(shadow, differs=differs)
        self.audit.shadow(actual, shadow, config_hash, differs=differs)
