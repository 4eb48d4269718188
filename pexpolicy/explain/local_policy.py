"""Local policy: what the script of a node makes of our answer, by an installed package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, cast

from pexpolicy.config.loader import load
from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints.object_names import ObjectNames
from pexpolicy.models.decision import Decision
from pexpolicy.models.extras import Extras
from pexpolicy.models.request import Request

GROUP = "pexpolicy.local_policy"
"""The group of the entry point that loads scripts."""
PACKAGE = "pexpolicy-local-policy"


def known_to_infinity(config: Path) -> tuple[Extras, Callable[[Decision], None]]:
    """Return the extras of ``[infinity]``, and what checks the names in a decision against it.

    The check raises ``DecisionError``. Raise ``LocalPolicyError`` for a configuration that cannot
    be used.
    """
    try:
        settings = load(config)
    except ConfigError as error:
        raise LocalPolicyError(str(error)) from None
    return settings.extras, ObjectNames(settings.infinity).check


class LocalPolicyError(ValueError):
    """A script or an input that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class LocalPolicyOutcome:
    """What a node does after its script has run on our answer.

    ``decision`` is what the script decided, ``None`` where nothing is changed or the script is not
    applied. ``unknown`` is true where the script reads what only the node knows.
    """

    script: str
    is_applied: bool
    verdict: str
    changed: tuple[str, ...] = ()
    decision: Decision | None = None
    notes: tuple[str, ...] = ()
    unknown: bool = False
    final: Decision | None = None
    """The decision that takes effect; ``None`` where that is ours, unchanged."""


class LocalPolicy(Protocol):
    """The scripts of a node, one for each kind of request at most."""

    def running(self) -> AbstractAsyncContextManager[Any]:
        """Start what runs the scripts."""

    async def after(
        self,
        endpoint: str,
        request: Request,
        decision: Decision,
        now: float | None,
        extras: Extras,
    ) -> LocalPolicyOutcome | None:
        """Return what the node makes of a decision, ``None`` where it has no script for it.

        ``now`` is the time of the script in seconds since 1970, ``extras`` what Infinity knows
        beyond the contract.
        """

    def reads(self, endpoint: str) -> frozenset[str]:
        """Return the names of what the script for an endpoint may read or call."""


def load_local_policy(
    scripts: Sequence[str], endpoint: str | None, service_config: Path | None
) -> LocalPolicy:
    """Return the scripts, each a file or ``KIND=FILE``.

    A file without a kind is for requests of ``endpoint``; without one, the script tells its kind.
    ``service_config`` is a file with the service that Infinity itself has, as JSON. Raise
    ``LocalPolicyError``.
    """
    found = next(iter(metadata.entry_points(group=GROUP)), None)
    if found is None:
        msg = f"local policy scripts need the package {PACKAGE}: install it"
        raise LocalPolicyError(msg)
    return cast("LocalPolicy", found.load()(scripts, endpoint, service_config))
