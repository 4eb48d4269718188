"""Asking the plugin through the whole chain, as a server does."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from multidict import MultiDict

from pexpolicy import MediaLocationRequest
from pexpolicy.policy import Answer
from tests.support.one_plugin import Built, Settings, complaints_of, policy_of


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


def _asked(answer: Answer) -> Asked:
    body, step = json.loads(answer.reply.body), answer.outcome.steps[0].outcome
    return Asked(answer.reply.status, body.get("result"), body.get("reason"), step)


class Locations(Built):
    """The plugin as its settings make it."""

    def ask(self, address: str | None = None, **more: str) -> Asked:
        return self.ask_all([{**({"remote_address": address} if address else {}), **more}])[0]

    def ask_all(self, calls: list[dict[str, str]]) -> list[Asked]:
        return [*map(_asked, self.answers(MediaLocationRequest(MultiDict(c)) for c in calls))]


Use = Callable[[Callable[..., Any], Settings, str | None, Settings | None], Any]


@pytest.fixture(scope="session")
def use(tmp_path_factory: pytest.TempPathFactory) -> Use:
    """Calls what takes settings, with ``csv`` as the text of their file."""
    folder = tmp_path_factory.mktemp("locations")

    def use(
        take: Callable[..., Any], settings: Settings, csv: str | None, tables: Settings | None
    ) -> Any:
        if csv is not None:
            (folder / "subnets.csv").write_text(csv)
            settings = {**settings, "csv": "subnets.csv"}
        return take("locations", settings, folder, tables)

    return use


@pytest.fixture(scope="session")
def build(use: Use) -> Callable[..., Locations]:
    """Builds the plugin from its settings; ``csv`` is the text of the file, ``tables`` what else
    stands in the configuration.
    """
    return lambda settings, *, csv=None, tables=None: Locations(
        "locations", use(policy_of, settings, csv, tables)
    )


@pytest.fixture(scope="session")
def complaints(use: Use) -> Callable[..., list[str]]:
    """What is said of settings that cannot be used, without the table that all of it is in."""
    return lambda settings, *, csv=None, tables=None: use(complaints_of, settings, csv, tables)
