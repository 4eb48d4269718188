"""Building the plugin from rules, and asking it through the whole chain, as a server does."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError
from pexpolicy.policy import Policy
from pexpolicy_rules import Rules

Table = dict[str, Any]
NOON = 1_768_478_400.0
"""Seconds since 1970: noon of 15 January 2026, a Thursday, in UTC."""


@pytest.fixture
def rules() -> Callable[..., Rules]:
    """Builds the plugin from rules; ``now`` is what its clock says."""

    def build(*written: Table, now: Callable[[], float] = lambda: NOON) -> Rules:
        settings = Rules.Settings.model_validate({"rules": list(written)})
        return Rules(settings, clock=now)

    return build


def policy(settings: Table, folder: Path = Path()) -> Policy:
    """The policy of the plugin alone, as a configuration in a folder makes it."""
    document = {"plugins": {"rules": {"settings": settings}}}
    return build_policy(from_document(document, folder / "config.toml", "0" * 16))


@pytest.fixture
def complaints() -> Callable[..., list[str]]:
    """What is said of settings that cannot be used, without the table that all of it is in."""

    def complain(settings: Table, folder: Path = Path()) -> list[str]:
        with pytest.raises(ConfigError) as refused:
            policy(settings, folder)
        told = [str(problem) for problem in refused.value.problems]
        return [line.removeprefix("plugins.rules.settings.") for line in told]

    return complain


@pytest.fixture
def advice() -> Callable[..., list[str]]:
    """What `check` says of rules that can be used."""

    def advised(rules: Sequence[Table]) -> list[str]:
        made = policy({"rules": list(rules)})
        return [
            str(item).removeprefix("plugins.rules.settings.")
            for item in made.advice
            if "on_error" not in item.key
        ]

    return advised
