"""Asking the plugin through the whole chain, as a server does."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from multidict import MultiDict

from pexpolicy import RegistrationAliasRequest
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError
from pexpolicy.policy import Answer, Policy
from tests.support import installed

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """What became of one registration: the reply as Infinity reads it, and the one step."""

    action: str
    decided_by: str
    reason: str | None
    step: str


def _policy(settings: Settings) -> Policy:
    document = {"plugins": {"domains": {"on_error": "reject", "settings": settings}}}
    return build_policy(
        from_document(document, Path("config.toml"), "0" * 16), available=installed.plugins()
    )


def _asked(answer: Answer) -> Asked:
    body = json.loads(answer.reply.body)
    assert answer.reply.status == 200
    assert body["status"] == "success"
    # Neither an allowed nor a refused registration may carry credentials.
    assert body["result"] == {}
    step = answer.outcome.steps[0].outcome
    return Asked(body["action"], body["decided_by"], body.get("reason"), step)


@dataclass(frozen=True)
class Domains:
    """The plugin as its settings make it."""

    policy: Policy = field(repr=False)

    def ask(self, alias: str) -> Asked:
        """One request about an alias that wants to register."""

        async def answer() -> Answer:
            async with self.policy.serving():
                request = RegistrationAliasRequest(MultiDict(), alias)
                return await self.policy.answer(request, "an id")

        return _asked(asyncio.run(answer()))

    def allows(self, alias: str) -> bool:
        """True when the alias may register."""
        return self.ask(alias).action == "continue"

    def warnings(self) -> list[str]:
        """What `pexpolicy check` warns of, without the table that all of it is in."""
        return [
            str(item).removeprefix("plugins.domains.settings.") for item in self.policy.warnings
        ]


@pytest.fixture(scope="session")
def build() -> Callable[..., Domains]:
    """Builds the plugin from the domains that it allows, and its other settings by name."""
    return lambda *allowed, **more: Domains(_policy({"allowed": list(allowed), **more}))


@pytest.fixture(scope="session")
def complaints() -> Callable[[Settings], list[str]]:
    """What is said of settings that cannot be used, without the table that all of it is in."""

    def complain(settings: Settings) -> list[str]:
        with pytest.raises(ConfigError) as refused:
            _policy(settings)
        problems = [str(problem) for problem in refused.value.problems]
        assert all(problem.startswith("plugins.domains.settings.") for problem in problems)
        return [problem.removeprefix("plugins.domains.settings.") for problem in problems]

    return complain
