"""Plugins of the installed packages, found once."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache

from pexpolicy.builder import build_policy
from pexpolicy.config.settings import Settings
from pexpolicy.plugins import discovery
from pexpolicy.plugins.discovery import PluginSource
from pexpolicy.policy import BuildContext, Policy


@cache
def plugins() -> Mapping[str, PluginSource]:
    """Return them by name. The search reads a file of each package, four times the work of the
    rest of ``build_policy``.
    """
    return discovery.installed()


@asynccontextmanager
async def serving_twice(settings: Settings, context: BuildContext) -> AsyncIterator[list[Policy]]:
    """Yield two policies of the same settings that serve, as those of two processes."""
    one, two = (build_policy(settings, available=plugins(), context=context) for _ in range(2))
    async with one.serving(in_server=True), two.serving(in_server=True):
        yield [one, two]
