"""One installed plugin, built from its settings and asked through the whole chain."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pexpolicy import Request
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError
from pexpolicy.policy import Answer, Policy
from tests.support import installed

Settings = Mapping[str, Any]


def policy_of(
    name: str,
    settings: Settings,
    folder: Path = Path(),
    tables: Settings | None = None,
    **keys: Any,
) -> Policy:
    """Build a policy with one plugin; ``keys`` are others of its table, ``tables`` are others."""
    document = {"plugins": {name: {**keys, "settings": settings}}, **(tables or {})}
    settings_of = from_document(document, folder / "config.toml")
    return build_policy(settings_of, available=installed.plugins())


def complaints_of(name: str, settings: Settings, *arguments: Any, **keys: Any) -> list[str]:
    """Return what is said of settings that cannot be used, without the table that it is in."""
    with pytest.raises(ConfigError) as refused:
        policy_of(name, settings, *arguments, **keys)
    problems = [str(problem) for problem in refused.value.problems]
    assert all(problem.startswith(f"plugins.{name}.settings.") for problem in problems)
    return [problem.removeprefix(f"plugins.{name}.settings.") for problem in problems]


@dataclass(frozen=True)
class Built:
    """The plugin as its settings make it."""

    name: str
    policy: Policy = field(repr=False)

    def answers(self, requests: Iterable[Request]) -> list[Answer]:
        """Return the answers to requests."""

        async def answer() -> list[Answer]:
            async with self.policy.serving():
                return [await self.policy.answer(request, "an id") for request in requests]

        return asyncio.run(answer())

    def warnings(self) -> list[str]:
        """Return what `pexpolicy check` warns of, without the table that it is in."""
        table = f"plugins.{self.name}.settings"
        told = [str(item) for item in self.policy.warnings]
        return [text.removeprefix(table).removeprefix(".") for text in told if table in text]

    def status(self) -> Mapping[str, object]:
        """Return the status of the plugin."""
        (plugin,) = self.policy.plugins
        told: Mapping[str, object] = plugin.instance.status()  # type: ignore[attr-defined]
        return told
