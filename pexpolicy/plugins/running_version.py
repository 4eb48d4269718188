"""The version of a plugin whose code runs, which an upgrade of its package does not change."""

from __future__ import annotations

import sys
from dataclasses import replace

from pexpolicy.plugins.discovery import PluginSource

_VERSION = "__pexpolicy_version__"
"""Attribute of a module: the version of its distribution when it was imported."""


def record_version(available: PluginSource) -> None:
    """Remember the version of a module that was imported a moment ago, or before."""
    module = sys.modules.get(_module(available))
    if module is not None:
        vars(module).setdefault(_VERSION, available.version)


def running(available: PluginSource) -> tuple[PluginSource, str]:
    """Return the plugin with the version that runs, and a remark where another one is installed."""
    module = sys.modules.get(_module(available))
    version = available.version if module is None else vars(module).get(_VERSION, available.version)
    if version == available.version:
        return available, ""
    text = f"{available.origin} is installed, and {version} runs: restart the server"
    return replace(available, version=version), text


def _module(available: PluginSource) -> str:
    return available.source.partition(":")[0]
