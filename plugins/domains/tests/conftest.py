"""Asking the plugin through the whole chain, as a server does."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
from multidict import MultiDict

from pexpolicy import RegistrationAliasRequest
from tests.support.one_plugin import Built, Settings, complaints_of, policy_of


@dataclass(frozen=True)
class Asked:
    """What became of one registration: the reply as Infinity reads it, and the one step."""

    action: str
    decided_by: str
    reason: str | None
    step: str


class Domains(Built):
    """The plugin as its settings make it."""

    def ask(self, alias: str) -> Asked:
        (answer,) = self.answers([RegistrationAliasRequest(MultiDict(), alias)])
        body = json.loads(answer.reply.body)
        # Neither an allowed nor a refused registration may carry credentials.
        assert (answer.reply.status, body["status"], body["result"]) == (200, "success", {})
        step = answer.outcome.steps[0].outcome
        return Asked(body["action"], body["decided_by"], body.get("reason"), step)

    def allows(self, alias: str) -> bool:
        return self.ask(alias).action == "continue"


@pytest.fixture(scope="session")
def build() -> Callable[..., Domains]:
    """Builds the plugin from the domains that it allows, and its other settings by name."""
    return lambda *allowed, **more: Domains(
        "domains", policy_of("domains", {"allowed": list(allowed), **more}, on_error="reject")
    )


@pytest.fixture(scope="session")
def complaints() -> Callable[[Settings], list[str]]:
    """What is said of settings that cannot be used, without the table that all of it is in."""
    return partial(complaints_of, "domains")
