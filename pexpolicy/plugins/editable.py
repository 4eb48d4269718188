"""Plugins that are installed from their source tree, imported again when it changes."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pexpolicy.plugins.discovery import PluginSource
from pexpolicy.plugins.module_replacement import DIGEST, digest_of, replaced_modules

_INSTALLED = frozenset(("site-packages", "dist-packages"))


def reimported(source: PluginSource) -> PluginSource:
    """Return a plugin whose source files are tracked, and imported again after a change.

    A plugin that is not installed from its source tree is returned as it is.
    """
    rivals = tuple(map(reimported, source.rivals))
    package = source.source.partition(":")[0].partition(".")[0]
    root = _source_of(package) if source.drop_in is None else None
    if root is None:
        return replace(source, rivals=rivals)
    tracked = replace(source, rivals=rivals, tree=root)
    return replace(tracked, load=partial(_load, tracked, package))


def _source_of(package: str) -> Path | None:
    """Return the file or folder of a package outside of the installed ones."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    file = Path(spec.origin)
    if _INSTALLED & set(file.parts):
        return None
    return file.parent if file.name == "__init__.py" else file


def _load(source: PluginSource, package: str) -> Any:
    """Import the plugin class, and the whole package again if its source has changed."""
    digest = digest_of(source.files())
    module = sys.modules.get(package)
    if module is not None and vars(module).setdefault(DIGEST, digest) == digest:
        return source.load()
    outdated = [key for key in sys.modules if key == package or key.startswith(f"{package}.")]
    with replaced_modules(outdated, package):
        loaded = source.load()
        setattr(sys.modules[package], DIGEST, digest)
    return loaded
