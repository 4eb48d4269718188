"""pexpolicy: a policy server for Pexip Infinity whose decisions come from plugins.

Plugins import from this module, and where they need it from ``pexpolicy.rows``,
``pexpolicy.fields``, ``pexpolicy.files`` and ``pexpolicy.config.outgoing``.
``pexpolicy.events``, ``pexpolicy.matching``, ``pexpolicy.models.subnets``,
``pexpolicy.config.csv_tables``, ``pexpolicy.config.toml_tables``,
``pexpolicy.conformance.replies``, ``pexpolicy.explain.explanation``,
``pexpolicy.explain.request_forms`` and ``pexpolicy.hooks.HOOK_API`` are public too.
``pexpolicy.testing`` is for tests.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pexpolicy.api import *  # noqa: F403 - its __all__ says what plugins import
else:

    def __getattr__(name: str) -> Any:
        """Import the API when its first name is used, so that a command can tune the process first.

        Submodules are imported without it.
        """
        api = None if find_spec(f"{__name__}.{name}") else import_module("pexpolicy.api")
        if name not in getattr(api, "__all__", ()) and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(api, name))

    def __dir__() -> list[str]:
        """Return the names of the API, for completion."""
        return [*globals(), *import_module("pexpolicy.api").__all__]
