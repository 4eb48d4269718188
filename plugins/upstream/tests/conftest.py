"""The plugin as its settings make it."""

from collections.abc import Callable
from functools import partial

import pytest

from pexpolicy.policy import Policy
from tests.conftest import serving
from tests.support.one_plugin import Built, Settings, complaints_of, policy_of

__all__ = ["serving"]


@pytest.fixture(scope="session")
def build() -> Callable[..., Policy]:
    """Builds the plugin from its settings, with a timeout in seconds."""
    return lambda settings, timeout=4.0: policy_of("upstream", settings, timeout=timeout)


@pytest.fixture(scope="session")
def complaints() -> Callable[[Settings], list[str]]:
    """What is said of settings that cannot be used, without the table that all of it is in."""
    return partial(complaints_of, "upstream", timeout=4.0)


@pytest.fixture(scope="session")
def warnings(build: Callable[..., Policy]) -> Callable[..., list[str]]:
    """What `pexpolicy check` warns of, without the table that all of it is in."""
    return lambda settings, timeout=4.0: Built("upstream", build(settings, timeout)).warnings()
