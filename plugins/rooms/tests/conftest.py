"""Asking the plugin through the whole chain, as a server does."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from multidict import MultiDict

from pexpolicy import ServiceConfigurationRequest
from tests.support.one_plugin import Built, Settings, complaints_of, policy_of


@dataclass(frozen=True)
class Asked:
    """What became of one call: the reply as Infinity reads it, and the one step on the way."""

    result: dict[str, Any] | None
    decided_by: str
    step: str
    detail: str
    warnings: tuple[str, ...]


class Rooms(Built):
    """The plugin as its settings make it."""

    def ask(self, alias: str | None, direction: str = "dial_in", **more: str) -> Asked:
        params = MultiDict({"call_direction": direction, **more})
        if alias is not None:
            params["local_alias"] = alias
        (answer,) = self.answers([ServiceConfigurationRequest(params)])
        body, step = json.loads(answer.reply.body), answer.outcome.steps[0]
        assert (body["status"], body["action"]) == ("success", "continue")
        warnings = answer.outcome.decision.warnings
        return Asked(body.get("result"), body["decided_by"], step.outcome, step.detail, warnings)


@pytest.fixture(scope="session")
def build() -> Callable[..., Rooms]:
    """Builds the plugin from its settings; further tables of the configuration by name."""
    return lambda settings, **tables: Rooms("rooms", policy_of("rooms", settings, Path(), tables))


@pytest.fixture(scope="session")
def complaints() -> Callable[[Settings], list[str]]:
    """What is said of settings that cannot be used, without the table that all of it is in."""
    return partial(complaints_of, "rooms")
