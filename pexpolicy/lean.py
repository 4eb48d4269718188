"""structlog without rich.

structlog imports rich wherever it finds it, for tracebacks in colours that are never shown here,
and with it a third of what a start takes. The command line uses rich for its tables, so it is
installed. While structlog is imported, rich is therefore marked as missing, the way that the import
system documents: ``None`` in ``sys.modules``.
"""

from __future__ import annotations

import sys

_modules: dict[str, object] = sys.modules  # type: ignore[assignment]
_hidden = "rich" not in _modules
if _hidden:
    _modules["rich"] = None
try:
    import structlog
finally:
    if _hidden:
        del _modules["rich"]

__all__ = ["structlog"]
