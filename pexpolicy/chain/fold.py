"""The fold of a chain: every plugin is asked, and each answer builds on the decision so far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import msgspec

from pexpolicy.chain.bound_hook import BoundHook
from pexpolicy.chain.chain import Chain, ChainRun
from pexpolicy.models.decision import Decision
from pexpolicy.models.request import Request
from pexpolicy.models.withheld import withheld_values


class Draft(msgspec.Struct):
    """A request and the decision on it so far; ``None`` before the first answer."""

    request: Request
    decision: Decision | None = None
    may_admit: bool = False
    """True while a plugin is asked that may turn a reject into an admission."""
    protecting: Decision | None = None
    """The last decision of a plugin that decided or may admit: what it protects stays protected."""

    def secrets(self) -> list[str]:
        """Return the secrets in the request and in the decision, to keep them out of logs."""
        found = withheld_values(self.request)
        if self.decision is not None:
            model, fields = type(self.decision), self.decision.set_fields()
            for name, value in fields.items():
                if name in model.secrets:
                    found += _texts(value)
                elif (nested := model.nested_models.get(name)) is not None:
                    items = value if isinstance(value, list) else [value]
                    found += _texts(
                        [item.get(secret) for item in items for secret in nested.secrets]
                    )
        return found


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in a value of JSON that are not empty."""
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


class FoldRun(ChainRun, ABC):
    """The state of one call whose plugins are all asked; a reject ends it early."""

    __slots__ = ("draft", "has_ended")

    def __init__(self, chain: Chain, draft: Draft) -> None:
        super().__init__(chain, draft.request, draft)
        self.draft = draft
        self.has_ended = False

    @abstractmethod
    def take(self, decision: Decision) -> bool:
        """Make an answer the decision so far; ``steps[-1]`` is its step. False ends the call."""

    def continues_after(self, link: BoundHook) -> bool:
        """Take the answer of a plugin; return whether the next one shares its task."""
        decision = self.decision
        if self.has_ended or decision is None:
            return False
        self.decision = None
        if not self.take(decision) or link.may_wait or self.at == self.last:
            return False
        return not self.chain.links[self.at].may_wait

    def undecided(self) -> Decision:
        """Return the decision of all answers, or the default."""
        return self.draft.decision or self.chain.default

    def refuse(self, link: BoundHook, reason: str) -> None:
        """End with the most restrictive decision."""
        super().refuse(link, reason)
        self.has_ended = True
