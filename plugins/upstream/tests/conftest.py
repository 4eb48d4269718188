"""The plugin as its settings make it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError
from pexpolicy.policy import Policy
from tests.conftest import serving
from tests.support import installed

__all__ = ["serving"]

Settings = Mapping[str, Any]


def _policy(settings: Settings, timeout: float) -> Policy:
    document = {"plugins": {"upstream": {"timeout": timeout, "settings": settings}}}
    return build_policy(
        from_document(document, Path("config.toml"), "0" * 16), available=installed.plugins()
    )


@pytest.fixture(scope="session")
def build() -> Callable[..., Policy]:
    """Builds the plugin from its settings, with a timeout in seconds."""
    return lambda settings, timeout=4.0: _policy(settings, timeout)


@pytest.fixture(scope="session")
def complaints() -> Callable[[Settings], list[str]]:
    """What is said of settings that cannot be used, without the table that all of it is in."""

    def complain(settings: Settings) -> list[str]:
        with pytest.raises(ConfigError) as refused:
            _policy(settings, 4.0)
        problems = [str(problem) for problem in refused.value.problems]
        assert all(problem.startswith("plugins.upstream.settings.") for problem in problems)
        return [problem.removeprefix("plugins.upstream.settings.") for problem in problems]

    return complain


@pytest.fixture(scope="session")
def warnings(build: Callable[..., Policy]) -> Callable[..., list[str]]:
    """What `pexpolicy check` warns of, without the table that all of it is in."""

    def advise(settings: Settings, timeout: float = 4.0) -> list[str]:
        told = [str(item) for item in build(settings, timeout).warnings]
        ours = [text for text in told if text.startswith("plugins.upstream.settings.")]
        return [text.removeprefix("plugins.upstream.settings.") for text in ours]

    return advise
