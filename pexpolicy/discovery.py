"""Finding plugins: those that packages bring, and those that lie in a directory. Nothing is
imported.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from pexpolicy.problems import Problem
from pexpolicy.unbuildable import Unbuildable

GROUP = "pexpolicy"
"""The group of entry points that name plugins."""
MODULE_PREFIX = "pexpolicy_dropin_"
MARK = "pexpolicy_impl"
"""The attribute that pluggy's marker leaves on a hook implementation."""


@dataclass(frozen=True, slots=True)
class Available:
    """A plugin that can be built: its name, what brought it, and how to import its class."""

    name: str
    distribution: str
    version: str
    source: str
    load: Callable[[], Any]

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


def installed() -> dict[str, Available]:
    """The plugins that packages bring, by name."""
    found: dict[str, Available] = {}
    for entry in metadata.entry_points(group=GROUP):
        distribution = entry.dist
        name = distribution.name if distribution else "unknown"
        version = distribution.version if distribution else "unknown"
        found.setdefault(entry.name, Available(entry.name, name, version, entry.value, entry.load))
    return found


def discover(directories: Sequence[Path]) -> tuple[dict[str, Available], list[Problem]]:
    """Every plugin by name: entry points first, then the directories; and what is wrong with
    those.
    """
    found = installed()
    problems: list[Problem] = []
    for place, directory in enumerate(directories):
        if not directory.is_dir():
            problems.append(Problem(("plugin_dirs", place), f"{directory} is no directory"))
            continue
        for path in _modules_in(directory):
            if path.stem in found:
                other = found[path.stem].source
                text = f"{path} and {other} bring a plugin of the same name {path.stem}"
                problems.append(Problem(("plugin_dirs", place), text))
            else:
                load = partial(_load, path)
                found[path.stem] = Available(path.stem, directory.name, "drop-in", str(path), load)
    return found, problems


def _modules_in(directory: Path) -> list[Path]:
    """Modules and packages that may hold a plugin, by name."""
    return sorted(
        path
        for path in directory.iterdir()
        if not path.name.startswith((".", "_"))
        and path.stem.isidentifier()
        and (path.suffix == ".py" or (path / "__init__.py").is_file())
    )


def _load(path: Path) -> type:
    """Import a module or package, and give the one class in it that has hooks."""
    file = path / "__init__.py" if path.is_dir() else path
    spec = importlib.util.spec_from_file_location(
        MODULE_PREFIX + path.stem,
        file,
        submodule_search_locations=[str(path)] if path.is_dir() else None,
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    classes = [
        value for value in vars(module).values() if isinstance(value, type) and _has_hooks(value)
    ]
    if len(classes) != 1:
        names = ", ".join(c.__name__ for c in classes) or "none"
        text = (
            f"{file} must hold one class with @hookimpl methods, and holds {len(classes)} ({names})"
        )
        raise Unbuildable.because(text)
    return classes[0]


def _has_hooks(candidate: type) -> bool:
    return any(hasattr(value, MARK) for value in vars(candidate).values())
