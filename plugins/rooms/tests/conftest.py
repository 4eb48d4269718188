"""Asking the plugin through the whole chain, as a server does."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from multidict import MultiDict

from pexpolicy import ServiceConfigurationRequest
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError
from pexpolicy.policy import Answer, Policy
from tests.support import installed

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """What became of one call: the reply as Infinity reads it, and the one step on the way."""

    result: dict[str, Any] | None
    decided_by: str
    step: str
    detail: str
    warnings: tuple[str, ...]


def _policy(settings: Settings, tables: Settings | None = None) -> Policy:
    document = {"plugins": {"rooms": {"settings": settings}}, **(tables or {})}
    return build_policy(
        from_document(document, Path("config.toml"), "0" * 16), available=installed.plugins()
    )


def _asked(answer: Answer) -> Asked:
    body = json.loads(answer.reply.body)
    assert body["status"] == "success"
    assert body["action"] == "continue"
    step = answer.outcome.steps[0]
    return Asked(
        body.get("result"),
        body["decided_by"],
        step.outcome,
        step.detail,
        answer.outcome.decision.warnings,
    )


@dataclass(frozen=True)
class Rooms:
    """The plugin as its settings make it."""

    policy: Policy = field(repr=False)

    def ask(self, alias: str | None, direction: str = "dial_in", **more: str) -> Asked:
        """One request about an alias."""
        params = MultiDict({"call_direction": direction, **more})
        if alias is not None:
            params["local_alias"] = alias

        async def answer() -> Answer:
            async with self.policy.serving():
                return await self.policy.answer(ServiceConfigurationRequest(params), "an id")

        return _asked(asyncio.run(answer()))

    def warnings(self) -> list[str]:
        """What `pexpolicy check` warns of, without the table that all of it is in."""
        return [str(item).removeprefix("plugins.rooms.settings.") for item in self.policy.warnings]


@pytest.fixture(scope="session")
def build() -> Callable[..., Rooms]:
    """Builds the plugin from its settings; further tables of the configuration by name."""
    return lambda settings, **tables: Rooms(_policy(settings, tables))


@pytest.fixture(scope="session")
def complaints() -> Callable[[Settings], list[str]]:
    """What is said of settings that cannot be used, without the table that all of it is in."""

    def complain(settings: Settings) -> list[str]:
        with pytest.raises(ConfigError) as refused:
            _policy(settings)
        problems = [str(problem) for problem in refused.value.problems]
        assert all(problem.startswith("plugins.rooms.settings.") for problem in problems)
        return [problem.removeprefix("plugins.rooms.settings.") for problem in problems]

    return complain
