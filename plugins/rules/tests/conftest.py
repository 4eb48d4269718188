"""Fixtures that build the plugin from rules, alone or in a policy."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError
from pexpolicy.policy import Policy
from pexpolicy_rules import Rules
from pexpolicy_rules.settings import Settings
from tests.support import installed

Table = dict[str, Any]
NOON = 1_768_478_400.0
"""Seconds since 1970: noon of 15 January 2026, a Thursday, in UTC."""


@pytest.fixture
def rules() -> Callable[..., Rules]:
    """Return a builder of the plugin from rules; ``now`` is its clock."""

    def build(*written: Table, now: Callable[[], float] = lambda: NOON) -> Rules:
        settings = Settings.model_validate({"rules": list(written)})
        return Rules(settings, clock=now)

    return build


def policy(settings: Table, folder: Path = Path()) -> Policy:
    """Return the policy of a configuration in a folder with this plugin only."""
    document = {"plugins": {"rules": {"settings": settings}}}
    return build_policy(
        from_document(document, folder / "config.toml"), available=installed.plugins()
    )


@pytest.fixture
def problems() -> Callable[..., list[str]]:
    """Return the problems of invalid settings, with keys relative to the settings."""

    def collect(settings: Table, folder: Path = Path()) -> list[str]:
        with pytest.raises(ConfigError) as refused:
            policy(settings, folder)
        messages = [str(problem) for problem in refused.value.problems]
        return [line.removeprefix("plugins.rules.settings.") for line in messages]

    return collect


@pytest.fixture
def warnings() -> Callable[..., list[str]]:
    """Return the warnings of `check` about valid rules."""

    def collect(rules: Sequence[Table]) -> list[str]:
        built = policy({"rules": list(rules)})
        return [
            str(item).removeprefix("plugins.rules.settings.")
            for item in built.warnings
            if "on_error" not in item.key
        ]

    return collect
