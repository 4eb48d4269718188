"""Everything that one configuration amounts to: the plugins, six chains, and what the plugins
opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from pexpolicy.chain.background import BackgroundTasks, ShadowLog
from pexpolicy.chain.bound_hook import BoundHook
from pexpolicy.chain.chain import Chain
from pexpolicy.chain.hook_tasks import HookTasks
from pexpolicy.chain.loop_watchdog import Watchdog
from pexpolicy.config.problems import ConfigWarning, Problem
from pexpolicy.config.settings import PluginStartupError, Settings
from pexpolicy.endpoints.base import Reply
from pexpolicy.errors import Log, describe_error
from pexpolicy.models.outcome import DEFAULT, Outcome
from pexpolicy.models.request import Params, Request
from pexpolicy.plugins.plugin import Plugin

OPENING_LIMIT = 20.0
"""Seconds in which the lifespan of a plugin must have begun."""
CLOSING_LIMIT = 2.0
"""Seconds in which it must have ended."""
UNRECORDED = "audit unavailable"
"""The reason of an answer that stands in for one that could not be written down."""


class Answer(msgspec.Struct, frozen=True):
    """What became of one call: how it was decided, and what leaves."""

    outcome: Outcome
    reply: Reply


class Policy:
    """The policy of one configuration; immutable. It answers between entering and leaving
    ``serving()``.
    """

    def __init__(
        self,
        settings: Settings,
        plugins: tuple[Plugin, ...],
        chains: Mapping[str, Chain],
        aftermath: BackgroundTasks,
        advice: tuple[ConfigWarning, ...] = (),
        log: Log | None = None,
        files: tuple[Path, ...] = (),
    ) -> None:
        self.settings = settings
        self.files = files
        """All that it was made of; when one of them changes, it is out of date."""
        self.config_hash = settings.config_hash
        self.plugins = plugins
        self.chains = chains
        self._chain_of = {chain.endpoint.request: chain for chain in chains.values()}
        self.advice = advice
        self.has_background_work = not aftermath.is_empty
        """True where ``run_background`` has anything to do."""
        self._aftermath = aftermath
        self._log = log
        self._tasks: HookTasks | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Policy]:
        """Open what the plugins need, and close it again.

        Raises ``PluginStartupError`` for a plugin whose lifespan fails.
        """
        async with AsyncExitStack() as stack:
            tasks = HookTasks(asyncio.get_running_loop())
            stack.push_async_callback(tasks.close)
            problems: list[Problem] = []
            for plugin in self.plugins:
                stack.callback(plugin.close)
                try:
                    await self._open(plugin, stack)
                except BaseException as error:
                    if isinstance(error, asyncio.CancelledError) and _is_ours():
                        raise
                    text = (
                        f"{plugin.available}: its lifespan failed: {describe_error(error).summary}"
                    )
                    problems.append(Problem(("plugins", plugin.name), text))
            if problems:
                raise PluginStartupError(self.settings.path, problems)
            if self._log is not None:
                stack.enter_context(Watchdog(tasks, self._log))
            stack.push_async_callback(self._aftermath.finish)
            self._tasks = tasks
            yield self

    async def _open(self, plugin: Plugin, stack: AsyncExitStack) -> None:
        if (opened := plugin.lifespan()) is None:
            return
        async with asyncio.timeout(OPENING_LIMIT):
            await opened.__aenter__()

        async def close() -> None:
            try:
                async with asyncio.timeout(CLOSING_LIMIT):
                    await opened.__aexit__(None, None, None)
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError) and _is_ours():
                    raise
                if self._log is not None:
                    self._log.warning(
                        "plugin failed",
                        plugin=plugin.name,
                        hook="lifespan",
                        error=describe_error(error).summary,
                    )

        stack.push_async_callback(close)

    def close(self) -> None:
        """Let go of a policy that never served."""
        for plugin in self.plugins:
            plugin.close()

    @property
    def leftovers(self) -> list[str]:
        """Plugins and hooks that were given up, and have not come back."""
        waiting = self._tasks.leftovers if self._tasks is not None else []
        stuck = [plugin.name for plugin in self.plugins if plugin.threads and plugin.threads.stuck]
        return sorted({*waiting, *stuck})

    def links(self) -> Iterator[BoundHook]:
        """Each plugin in each chain, those of the shadows too."""
        for chain in (*self.chains.values(), *self._aftermath.shadows):
            yield from chain.links

    async def answer(self, request: Request, decision_id: str) -> Answer:
        """Answer one request; its class tells the endpoint."""
        chain = self._chain_of[type(request)]
        assert self._tasks is not None, "the policy is not serving"
        outcome = await chain.ask(request, self._tasks, decision_id)
        reply = chain.endpoint.reply(outcome.decision, decision_id, outcome.decided_by)
        return Answer(outcome, reply)

    def run_background(self, outcome: Outcome, audit: ShadowLog | None = None) -> None:
        """Ask the shadow plugins and tell the observers, once the reply has left."""
        if self.has_background_work and self._tasks is not None:
            self._aftermath.begin(outcome, self._tasks, audit)

    def internal_error_answer(
        self, name: str, params: Params, alias: str, decision_id: str
    ) -> Answer:
        """The answer to a call that a fault of our own kept from being decided.

        A plugin whose ``on_error`` is ``reject`` was not heard, so the call is refused where there
        is one.
        """
        chain = self.chains[name]
        guarded = any(link.on_error == "reject" for link in chain.links)
        decision = chain.endpoint.refusal if guarded else chain.default
        request = chain.endpoint.parse(params, alias)
        outcome = Outcome(decision_id, name, request, decision, DEFAULT, [])
        return Answer(outcome, chain.endpoint.reply(decision, decision_id, DEFAULT))

    def audit_failure_answer(self, outcome: Outcome, *, rejects: bool) -> Answer:
        """The answer in place of one that must not leave, because it could not be written down.

        It decides nothing of our own: Infinity goes on by itself, or is asked to refuse.
        """
        endpoint = self.chains[outcome.endpoint].endpoint
        kind = endpoint.refusal if rejects else endpoint.default
        decision = type(kind).from_result(kind.set_fields(), reason=UNRECORDED)
        instead = msgspec.structs.replace(outcome, decision=decision, decided_by=DEFAULT)
        return Answer(instead, endpoint.reply(decision, outcome.decision_id, DEFAULT))


def _is_ours() -> bool:
    """True when the cancellation comes from whoever runs the policy, and not from the plugin
    itself.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
