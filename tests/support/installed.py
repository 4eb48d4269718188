"""Plugins of the installed packages, found once."""

from collections.abc import Mapping
from functools import cache

from pexpolicy.plugins import discovery
from pexpolicy.plugins.discovery import PluginSource


@cache
def plugins() -> Mapping[str, PluginSource]:
    """Return them by name. The search reads a file of each package, four times the work of the
    rest of ``build_policy``.
    """
    return discovery.installed()
