"""The fold of a chain: every plugin is asked, and each answer builds on the decision so far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from pexpolicy.chain.bound_hook import BoundHook
from pexpolicy.chain.chain import Chain, ChainRun
from pexpolicy.models.decision import Decision
from pexpolicy.models.request import Request


@dataclass(slots=True)
class Draft:
    """A request and the decision on it so far; ``None`` before the first answer."""

    request: Request
    decision: Decision | None = None
    may_admit: bool = False
    """True while a plugin is asked that may turn a reject into an admission."""
    protecting: Decision | None = None
    """The last decision of a plugin that decided or may admit: what it protects stays protected."""

    @property
    def decision_id(self) -> str:
        """The ID of the call."""
        return self.request.decision_id

    @property
    def errors(self) -> list[BaseException] | None:
        """The errors of the call, where they are collected."""
        return self.request.errors

    def secrets(self) -> list[str]:
        """Return the secrets of the request."""
        return self.request.secrets()


class FoldRun(ChainRun, ABC):
    """The state of one call whose plugins are all asked; a reject ends it early."""

    __slots__ = ("draft", "has_ended")

    def __init__(self, chain: Chain, draft: Draft) -> None:
        super().__init__(chain, draft)
        self.draft = draft
        self.has_ended = False

    @abstractmethod
    def take(self, decision: Decision) -> None:
        """Make an answer the decision so far; ``steps[-1]`` is its step."""

    async def run(self) -> None:
        """Ask the plugins that share the next task, and take their answers."""
        links, abandoned = self.chain.links, self.abandoned
        while True:
            may_wait = links[self.at].may_wait
            await super().run()
            if abandoned != self.abandoned:
                return
            if self.decision is not None and not self.has_ended:
                decision, self.decision = self.decision, None
                self.take(decision)
            if may_wait or self.has_ended or self.at == self.last or links[self.at].may_wait:
                return

    def undecided(self) -> Decision:
        """Return the decision of all answers, or the default."""
        return self.draft.decision or self.chain.default

    def refuse(self, link: BoundHook, reason: str) -> None:
        """End with the most restrictive decision."""
        super().refuse(link, reason)
        self.has_ended = True
