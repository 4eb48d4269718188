"""Everything that one configuration amounts to: the plugins, six chains, and what the plugins opened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from pexpolicy.chain import DEFAULT, Chain, Clock, Link, Log, Outcome
from pexpolicy.config import Advice, ConfigError, Settings
from pexpolicy.decisions import Decision, Reject
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import Endpoint, Reply
from pexpolicy.lanes import Lanes
from pexpolicy.names import DeclaredNames
from pexpolicy.parameters import Params
from pexpolicy.plugins import Available, Plugin, advice_of, build, discover, link


class Answer(msgspec.Struct, frozen=True):
    """What became of one call: how it was decided, and what leaves."""

    outcome: Outcome
    reply: Reply


class Policy:
    """The policy of one configuration; immutable. It answers between entering and leaving ``serving()``."""

    def __init__(
        self,
        settings: Settings,
        plugins: tuple[Plugin, ...],
        chains: Mapping[str, Chain],
        advice: tuple[Advice, ...] = (),
    ) -> None:
        self.settings = settings
        self.plugins = plugins
        self.chains = chains
        self.advice = advice
        self._lanes: Lanes | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Policy]:
        """Open what the plugins need, and close it again."""
        async with AsyncExitStack() as stack:
            lanes = Lanes(asyncio.get_running_loop())
            stack.push_async_callback(lanes.close)
            for plugin in self.plugins:
                stack.callback(plugin.close)
                if (opened := plugin.lifespan()) is not None:
                    await stack.enter_async_context(opened)
            self._lanes = lanes
            yield self

    async def answer(self, name: str, params: Params, alias: str, decision_id: str) -> Answer:
        """Answer one request of the endpoint ``name``; ``alias`` is the one in the path, decoded once."""
        chain = self.chains[name]
        endpoint = chain.endpoint
        assert self._lanes is not None, "the policy is not serving"
        outcome = await chain.ask(endpoint.parse(params, alias), self._lanes)
        return Answer(outcome, endpoint.reply(outcome.decision, decision_id, outcome.decided_by))

    def last_resort(self, name: str, decision_id: str) -> Answer:
        """The answer to a call that a fault of our own kept from being decided.

        A plugin whose ``on_error`` is ``reject`` was not heard, so the call is refused where there is one.
        """
        chain = self.chains[name]
        guarded = any(step.on_error == "reject" for step in chain.links)
        decision = chain.endpoint.refusal if guarded else chain.default
        outcome = Outcome(name, decision, DEFAULT, [])
        return Answer(outcome, chain.endpoint.reply(decision, decision_id, DEFAULT))


def build_policy(
    settings: Settings,
    *,
    available: Mapping[str, Available] | None = None,
    log: Log | None = None,
    clock: Clock = time.perf_counter,
) -> Policy:
    """Build all that a configuration asks for; raises ``ConfigError`` with everything that is wrong.

    ``available`` are the plugins to choose from, by default the installed ones.
    """
    found = discover() if available is None else available
    plugins, problems = build(settings.plugins, found, settings.path.parent)
    advice, failed = advice_of(plugins)
    problems += failed
    if problems:
        for plugin in plugins:
            plugin.close()
        raise ConfigError(settings.path, problems)
    chains = {
        name: _chain(endpoint, plugins, settings, log, clock)
        for name, endpoint in ENDPOINTS.items()
    }
    return Policy(settings, tuple(plugins), chains, (*_own_advice(settings), *advice))


def _chain(
    endpoint: Endpoint[Any], plugins: list[Plugin], settings: Settings, log: Log | None, clock: Clock
) -> Chain:
    links: tuple[Link, ...] = tuple(
        step for plugin in plugins if (step := link(plugin, endpoint.name)) is not None
    )
    return Chain(
        endpoint,
        links,
        default=_default(endpoint, settings),
        budget=settings.server.budget,
        clock=clock,
        log=log,
        names=DeclaredNames(settings.infinity) if settings.infinity else None,
    )


def _default(endpoint: Endpoint[Any], settings: Settings) -> Decision:
    table = settings.endpoints.get(endpoint.name)
    if table is not None and table.default == "reject":
        return Reject(reason="no plugin decided")
    return endpoint.default


def _own_advice(settings: Settings) -> list[Advice]:
    if settings.user is None and settings.server.allow_anonymous:
        text = "anybody who reaches the port can ask for PINs; add [auth]"
        return [Advice(("server", "allow_anonymous"), text)]
    return []

