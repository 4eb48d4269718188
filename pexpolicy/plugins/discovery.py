"""Discovery of plugins: entry points of installed packages, and modules in directories.

Nothing is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pexpolicy.config.problems import Key, PluginBuildError, Problem
from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.plugins import drop_in
from pexpolicy.text import did_you_mean

GROUP = "pexpolicy"
"""The group of entry points that name plugins."""
RESERVED = ("default", "guard")
"""Names that ``decided_by`` of a reply uses without a plugin."""
_INSTANCE = re.compile(r"[a-z][a-z0-9_]{0,99}")


@dataclass(frozen=True, slots=True)
class PluginSource:
    """A plugin that can be built: its name, its distribution, and how to import its class."""

    name: str
    distribution: str
    version: str
    source: str
    load: Callable[[], Any]
    rivals: tuple[PluginSource, ...] = ()
    """Plugins of the same name in other distributions."""
    files: Callable[[], list[Path]] = list
    """Returns the source files that a server tracks: those of a drop-in plugin. A package changes
    at its installation only.
    """
    plugin: str = ""
    """Name of the plugin where ``name`` is that of an instance."""

    @property
    def origin(self) -> str:
        """Return the distribution and its version."""
        return f"{self.distribution} {self.version}"

    def __str__(self) -> str:
        plugin = f"{self.plugin} of " if self.plugin else ""
        return f"{self.name} ({plugin}{self.origin})"


def installed() -> dict[str, PluginSource]:
    """Return the plugins of installed packages by name; one name may have rivals."""
    found: dict[str, PluginSource] = {}
    for entry in metadata.entry_points(group=GROUP):
        distribution = entry.dist
        # Both are in one file, which ``name`` and ``version`` would each parse.
        about = distribution.metadata if distribution else {"Name": "unknown", "Version": "unknown"}
        name, version = about["Name"], about["Version"]
        source = PluginSource(entry.name, name, version, entry.value, entry.load)
        other = found.setdefault(entry.name, source)
        if name not in [rival.distribution for rival in (other, *other.rivals)]:
            found[entry.name] = replace(other, rivals=(*other.rivals, source))
    return found


def discover(directories: Sequence[Path]) -> tuple[dict[str, PluginSource], list[Problem]]:
    """Return every plugin by name, and the problems of the directories."""
    found = installed()
    problems: list[Problem] = []
    for index, directory in enumerate(directories):
        if not directory.is_dir():
            problems.append(Problem(("plugin_dirs", index), f"{directory} is not a directory"))
            continue
        try:
            modules = _modules_in(directory)
        except OSError as error:
            text = f"{error.filename} cannot be read: {error.strerror}"
            problems.append(Problem(("plugin_dirs", index), text))
            continue
        for path in modules:
            if path.stem in found:
                other = found[path.stem].source
                text = f"{path} and {other} bring a plugin of the same name {path.stem}"
                problems.append(Problem(("plugin_dirs", index), text))
            else:
                found[path.stem] = PluginSource(
                    path.stem,
                    directory.resolve().name,
                    "drop-in",
                    str(path),
                    partial(drop_in.load, path),
                    files=partial(drop_in.source_files, path),
                )
    return found, problems


def select(
    name: str, tables: Mapping[str, PluginTable], found: Mapping[str, PluginSource]
) -> PluginSource:
    """Return the plugin of the table ``[plugins.NAME]`` under that name.

    Its key ``plugin`` is ``PLUGIN``, or ``DISTRIBUTION:PLUGIN``. Raises ``PluginBuildError``.
    """
    written = tables[name].plugin
    if name in RESERVED:
        text = "is a reserved name: decided_by has it where no plugin decides; choose another"
        raise PluginBuildError.because(text)
    if written is not None and _INSTANCE.fullmatch(name) is None:
        text = "is not a name for an instance: write small letters, digits and _, a letter first"
        raise PluginBuildError.because(text)
    key: Key = () if written is None else ("plugin",)
    distribution, _, plugin = (written or name).rpartition(":")
    source = found.get(plugin)
    if source is None:
        known = _known(plugin, tables, found, is_instance=written is not None)
        raise PluginBuildError([Problem(key, f"no plugin of this name is installed{known}")])
    sources = (source, *source.rivals)
    origins = " and ".join(one.origin for one in sources)
    if distribution:
        sources = tuple(s for s in sources if _plain(s.distribution) == _plain(distribution))
    if len(sources) != 1:
        text = (
            f"{plugin} is in {origins}: write which is meant, as in "
            f'plugin = "{source.distribution}:{plugin}", or uninstall all others'
        )
        raise PluginBuildError([Problem(key, text)])
    return replace(sources[0], name=name, plugin="" if plugin == name else plugin, rivals=())


def _known(
    name: str,
    tables: Mapping[str, PluginTable],
    found: Mapping[str, PluginSource],
    *,
    is_instance: bool,
) -> str:
    """Return which plugin may be meant, after a semicolon, else all that there are."""
    if is_instance and name in tables and (base := tables[name].plugin) is not None:
        return f'; {name} is an instance itself: write plugin = "{base}"'
    further = [base for base in found if re.fullmatch(re.escape(base) + r"(_.*|[0-9]+)", name)]
    if further and not is_instance:
        return (
            f'; for a further instance of {further[0]} write plugin = "{further[0]}" in its table'
        )
    installed = ", ".join(found) or "none"
    return did_you_mean(name.removeprefix("pexpolicy-"), found) or f"; installed: {installed}"


def _plain(distribution: str) -> str:
    """Return the name of a distribution in the form in which names are compared."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _modules_in(directory: Path) -> list[Path]:
    """Return modules and packages that may contain a plugin, sorted by name."""
    return sorted(
        path
        for path in directory.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file())
        # A folder may have another end, as of a copy.
        and (stem := path.name.removesuffix(".py")).isidentifier()
        and not stem.startswith("_")
    )


def reimported(source: PluginSource) -> PluginSource:
    """Return a plugin whose source files are tracked, and imported again after a change.

    A plugin that is not installed from its source tree is returned as it is.
    """
    source = replace(source, rivals=tuple(map(reimported, source.rivals)))
    package = source.source.partition(":")[0].partition(".")[0]
    try:
        spec = find_spec(package) if source.files is list else None
    except (ImportError, ValueError):
        spec = None
    file = Path((spec and spec.origin) or "")
    if file.suffix != ".py" or {"site-packages", "dist-packages"} & set(file.parts):
        return source
    files = partial(_tree_files, file)
    # Partial functions, as an isolated plugin is sent to its worker processes.
    return replace(source, files=files, load=partial(_load_again, package, files, source.load))


def _tree_files(file: Path) -> list[Path]:
    """Return the source files of a module, or of the package whose ``__init__.py`` it is."""
    if file.name != "__init__.py":
        return [file]
    # An editor locks a file by a broken link, whose name begins with a dot.
    return sorted(file.parent.rglob("[!.]*.py"))


def _load_again(package: str, files: Callable[[], list[Path]], load: Callable[[], Any]) -> Any:
    return drop_in.import_again(package, files(), load)
