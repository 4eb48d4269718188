"""Asking the plugin through the whole chain, as a server does."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from multidict import MultiDict

from pexpolicy import MediaLocationRequest
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError
from pexpolicy.policy import Answer, Policy
from tests.support import installed

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """What became of one call: the reply as Infinity reads it, and the one step on the way."""

    status: int
    result: dict[str, Any] | None
    reason: str | None
    step: str

    @property
    def location(self) -> str | None:
        """Where the media goes; nothing where the plugin abstained."""
        return self.result["location"] if self.result else None


def _policy(settings: Settings, folder: Path, tables: Settings | None = None) -> Policy:
    document = {"plugins": {"locations": {"settings": settings}}, **(tables or {})}
    return build_policy(
        from_document(document, folder / "config.toml", "0" * 16), available=installed.plugins()
    )


def _asked(answer: Answer) -> Asked:
    body = json.loads(answer.reply.body)
    step = answer.outcome.steps[0]
    return Asked(answer.reply.status, body.get("result"), body.get("reason"), step.outcome)


@dataclass(frozen=True)
class Locations:
    """The plugin as its settings make it."""

    policy: Policy = field(repr=False)

    def ask(self, address: str | None = None, **more: str) -> Asked:
        """One request of a participant at an address."""
        return self.ask_all([{**({"remote_address": address} if address else {}), **more}])[0]

    def ask_all(self, calls: list[dict[str, str]]) -> list[Asked]:
        """Several requests, each told by its parameters."""

        async def answers() -> list[Answer]:
            async with self.policy.serving():
                return [
                    await self.policy.answer(MediaLocationRequest(MultiDict(call)), "an id")
                    for call in calls
                ]

        return [_asked(answer) for answer in asyncio.run(answers())]

    def warnings(self) -> list[str]:
        """What `pexpolicy check` warns of, without the table that all of it is in."""
        return [
            str(item).removeprefix("plugins.locations.settings").removeprefix(".")
            for item in self.policy.warnings
        ]

    def status(self) -> Mapping[str, object]:
        """What the plugin says of itself."""
        (plugin,) = self.policy.plugins
        told: Mapping[str, object] = plugin.instance.status()  # type: ignore[attr-defined]
        return told


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Locations]:
    """Builds the plugin from its settings; ``csv`` is the text of the file, ``tables`` what else
    stands in the configuration.
    """
    folder = tmp_path_factory.mktemp("locations")

    def built(
        settings: Settings, *, csv: str | None = None, tables: Settings | None = None
    ) -> Locations:
        return Locations(_policy(_with_csv(settings, csv, folder), folder, tables))

    return built


@pytest.fixture(scope="session")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """What is said of settings that cannot be used, without the table that all of it is in."""
    folder = tmp_path_factory.mktemp("locations")

    def complain(
        settings: Settings, *, csv: str | None = None, tables: Settings | None = None
    ) -> list[str]:
        with pytest.raises(ConfigError) as refused:
            _policy(_with_csv(settings, csv, folder), folder, tables)
        problems = [str(problem) for problem in refused.value.problems]
        assert all(problem.startswith("plugins.locations.settings.") for problem in problems)
        return [problem.removeprefix("plugins.locations.settings.") for problem in problems]

    return complain


def _with_csv(settings: Settings, csv: str | None, folder: Path) -> Settings:
    if csv is None:
        return settings
    (folder / "subnets.csv").write_text(csv)
    return {**settings, "csv": "subnets.csv"}
