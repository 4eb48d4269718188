"""Discovery of plugins: entry points of installed packages, and modules in directories.

Nothing is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from pexpolicy.config.problems import Problem
from pexpolicy.plugins import drop_in

GROUP = "pexpolicy"
"""The group of entry points that name plugins."""
RESERVED = ("default", "guard")
"""Names that ``decided_by`` of a reply uses without a plugin."""


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
    conflict: str = ""
    """Why the plugin cannot be used: another distribution has one of the same name."""

    def files(self) -> list[Path]:
        """Return the source of a drop-in plugin; that of a package changes at installation only."""
        return drop_in.source_files(self.drop_in) if self.drop_in is not None else []

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


def installed() -> dict[str, PluginSource]:
    """Return the plugins of installed packages by name."""
    found: dict[str, PluginSource] = {}
    for entry in metadata.entry_points(group=GROUP):
        distribution = entry.dist
        name = distribution.name if distribution else "unknown"
        version = distribution.version if distribution else "unknown"
        source = PluginSource(entry.name, name, version, entry.value, entry.load)
        if (other := found.get(entry.name)) is not None and other.distribution != name:
            text = (
                f"{other.distribution} {other.version} and {name} {version} both have a plugin of "
                "this name: uninstall one of them"
            )
            source = replace(other, conflict=other.conflict or text)
        found[entry.name] = source
    return found


def discover(directories: Sequence[Path]) -> tuple[dict[str, PluginSource], list[Problem]]:
    """Return every plugin by name, and the problems of the directories."""
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
                    path.stem,
                    directory.name,
                    "drop-in",
                    str(path),
                    partial(drop_in.load, path),
                    path,
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
            table = f"[plugins.{suggestion}]"
            return f"{text}. Rename it to {suggestion}{path.suffix} and the table to {table}"
    return ""
