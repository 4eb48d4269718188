"""structlog, imported without rich."""

from __future__ import annotations

import sys
from types import ModuleType

_modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
_HIDDEN = "structlog" not in sys.modules and "rich" not in sys.modules
if _HIDDEN:
    # structlog imports rich, if it is installed, for tracebacks that are never printed. That is a
    # third of the start-up time. None is the documented way to mark a module as missing.
    _modules["rich"] = None
try:
    import structlog
finally:
    if _HIDDEN:
        del _modules["rich"]

__all__ = ["structlog"]
