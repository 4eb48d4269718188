"""Replacement of modules whose source has changed, in a running server."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

from pexpolicy.config.file_tracking import read_file

DIGEST = "__pexpolicy_digest__"
"""Attribute of a module: the hash of the source files that it was made of."""


def digest_of(files: Iterable[Path]) -> bytes:
    """Return the hash of the names and contents of source files."""
    digest = blake2b()
    for file in files:
        content = read_file(file)
        digest.update(f"{file}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.digest()


@contextmanager
def replaced_modules(outdated: Iterable[str], prefix: str) -> Iterator[None]:
    """Import modules again inside; if that fails, the ``outdated`` ones are restored.

    Modules whose names begin with ``prefix`` are removed then. No bytecode is written: its files do
    not tell two edits within one second apart.
    """
    before = {key: sys.modules.pop(key) for key in outdated}
    metrics = _unregister_metrics(before.values())
    known = set(sys.modules)
    writes_bytecode = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    except BaseException:
        added = [key for key in sys.modules if key.startswith(prefix)]
        _unregister_metrics([sys.modules.pop(key) for key in added if key not in known])
        sys.modules.update(before)
        for metric in metrics:
            sys.modules["prometheus_client"].REGISTRY.register(metric)
        raise
    finally:
        sys.dont_write_bytecode = writes_bytecode


def _unregister_metrics(modules: Iterable[ModuleType]) -> list[Any]:
    """Unregister the Prometheus metrics of modules that are replaced, and return them.

    The registry refuses a second metric of the same name. Metrics that other modules hold too are
    theirs.
    """
    prometheus: Any = sys.modules.get("prometheus_client")
    if prometheus is None:
        return []
    replaced = list(modules)
    found = {
        id(value): value
        for module in replaced
        for value in vars(module).values()
        if callable(getattr(type(value), "collect", None))
    }
    if found:
        others = [m for m in sys.modules.values() if m not in replaced and hasattr(m, "__dict__")]
        for value in [value for module in others for value in vars(module).values()]:
            found.pop(id(value), None)
    unregistered = []
    for value in found.values():
        try:
            prometheus.REGISTRY.unregister(value)
        except KeyError:  # it was never registered, or elsewhere
            continue
        unregistered.append(value)
    return unregistered
