"""Discovery of plugins: entry points of installed packages, and modules in directories.

Nothing is imported.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from pexpolicy.config.problems import Problem
from pexpolicy.plugins.errors import PluginBuildError

GROUP = "pexpolicy"
"""The group of entry points that name plugins."""
MODULE_PREFIX = "pexpolicy_dropin_"
MARK = "pexpolicy_impl"
"""Attribute that pluggy's marker sets on a hook implementation."""


@dataclass(frozen=True, slots=True)
class PluginSource:
    """A plugin that can be built: its name, its distribution, and how to import its class."""

    name: str
    distribution: str
    version: str
    source: str
    load: Callable[[], Any]
    drop_in: Path | None = None
    """Path of the module or package in a plugin directory; ``None`` for an installed package."""

    def files(self) -> list[Path]:
        """Return the source files of a drop-in plugin; those of a package change at installation only."""
        if self.drop_in is None or not self.drop_in.is_dir():
            return [self.drop_in] if self.drop_in is not None else []
        return sorted(self.drop_in.rglob("*.py"))

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


def installed() -> dict[str, PluginSource]:
    """The plugins that packages bring, by name."""
    found: dict[str, PluginSource] = {}
    for entry in metadata.entry_points(group=GROUP):
        distribution = entry.dist
        name = distribution.name if distribution else "unknown"
        version = distribution.version if distribution else "unknown"
        found.setdefault(
            entry.name, PluginSource(entry.name, name, version, entry.value, entry.load)
        )
    return found


def discover(directories: Sequence[Path]) -> tuple[dict[str, PluginSource], list[Problem]]:
    """Every plugin by name: entry points first, then the directories; and what is wrong with
    those.
    """
    found = installed()
    problems: list[Problem] = []
    for index, directory in enumerate(directories):
        if not directory.is_dir():
            problems.append(Problem(("plugin_dirs", index), f"{directory} is not a directory"))
            continue
        for path in _modules_in(directory):
            if path.stem in found:
                other = found[path.stem].source
                text = f"{path} and {other} bring a plugin of the same name {path.stem}"
                problems.append(Problem(("plugin_dirs", index), text))
            else:
                found[path.stem] = PluginSource(
                    path.stem, directory.name, "drop-in", str(path), partial(_load, path), path
                )
    return found, problems


def _modules_in(directory: Path) -> list[Path]:
    """Return modules and packages that may contain a plugin, sorted by name."""
    return sorted(path for path in _python_in(directory) if _is_name(path.stem))


def _python_in(directory: Path) -> Iterator[Path]:
    for path in directory.iterdir():
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            yield path


def _is_name(stem: str) -> bool:
    return stem.isidentifier() and not stem.startswith("_")


def filename_hint(name: str, directories: Sequence[Path]) -> str:
    """Return why a file that looks like the plugin ``name`` cannot be it; else an empty text."""
    for directory in filter(Path.is_dir, directories):
        for path in _python_in(directory):
            suggestion = re.sub(r"\W", "_", path.stem).lstrip("_")
            if _is_name(path.stem) or name not in (path.stem, suggestion):
                continue
            text = f"; {path} is ignored: its name must be letters, digits and _, a letter first"
            if not _is_name(suggestion):
                return text
            return f"{text}. Rename it to {suggestion}{path.suffix} and the table to [plugins.{suggestion}]"
    return ""


def _load(path: Path) -> type:
    """Import a module or package and return its one class with hooks.

    Raises ``PluginBuildError`` unless it defines exactly one.
    """
    file = path / "__init__.py" if path.is_dir() else path
    name = MODULE_PREFIX + path.stem
    spec = importlib.util.spec_from_file_location(
        name,
        file,
        loader=_SourceLoader(name, str(file)),
        submodule_search_locations=[str(path)] if path.is_dir() else None,
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = {key: sys.modules.pop(key) for key in _names_below(name)}
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        for key in _names_below(name):
            del sys.modules[key]
        sys.modules.update(before)
        raise
    classes = [
        value for value in vars(module).values() if isinstance(value, type) and _has_hooks(value)
    ]
    if len(classes) != 1:
        names = ", ".join(c.__name__ for c in classes) or "none"
        text = (
            f"{file} must hold one class with @hookimpl methods, and holds {len(classes)} ({names})"
        )
        raise PluginBuildError.because(text)
    return classes[0]


def _names_below(name: str) -> list[str]:
    """Return the names of a module and its submodules in ``sys.modules``."""
    return [key for key in sys.modules if key == name or key.startswith(f"{name}.")]


class _SourceLoader(SourceFileLoader):
    """Loader without a bytecode cache, which mistakes two edits within one second for one."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _has_hooks(candidate: type) -> bool:
    return any(hasattr(value, MARK) for value in vars(candidate).values())
