"""A guess whether a plugin rejects calls, for a warning about its ``on_error``."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pexpolicy.chain.adjusters import ADJUST
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.decision import Reject
from pexpolicy.plugins.hook_check import method_of

_HARMLESS = frozenset(
    (
        *("None", "Optional", "Union", "Awaitable", "Service"),
        *(kind.__name__ for endpoint in ENDPOINTS.values() for kind in endpoint.decisions),
    )
) - {"Reject"}
"""Words of a return annotation that is no reject."""


def may_reject(instance: object, hooks: Mapping[str, Callable[..., Any]]) -> bool:
    """Return true if a hook that may reject is not annotated as one that does not.

    In addition, the module of the class imports ``Reject``.
    """
    module = sys.modules.get(type(instance).__module__)
    if all(value is not Reject for value in vars(module or object).values()):
        return False
    return any(
        endpoint.can_reject and _answers_reject(hooks[name])
        for name in hooks
        if (endpoint := ENDPOINTS.get(name.removeprefix(ADJUST))) is not None
    )


def _answers_reject(hook: Callable[..., Any]) -> bool:
    """Return false if the annotation of a hook names other decisions only."""
    annotation = getattr(method_of(hook), "__annotations__", {}).get("return", "object")
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return not _HARMLESS.issuperset(re.findall(r"(?:\w+\.)*(\w+)", text))
