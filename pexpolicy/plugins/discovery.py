"""Discovery of plugins: entry points of installed packages, and modules in directories.

A drop-in plugin is a module or package in a plugin directory, which is imported by its path.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from glob import escape
from hashlib import blake2b
from importlib import metadata
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, NamedTuple

from pexpolicy.config.files import files_matching, kept_copies, read_file
from pexpolicy.config.plugin_settings import PluginSettings
from pexpolicy.config.problems import Key, PluginBuildError, Problem
from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.config.settings import Document
from pexpolicy.hooks import HOOKS, IMPL_MARK
from pexpolicy.text import suggest

_COPIES = "__pexpolicy_copies__"
"""Attribute of a package: the folders with what was kept of its source files."""


def module_name(path: Path) -> str:
    """Return the name under which a drop-in is imported: another one for each state of its source.

    It is a module of a package that stands for its directory and the helpers there. The modules of
    an earlier state stay what they are, for the policy that was built of them.
    """
    helpers = _digest_of(path.parent, _helper_files(path.parent))
    return f"pexpolicy_dropins_{helpers}.{path.stem}_{_digest_of(path, _own_files(path))}"


def source_files(path: Path) -> list[Path]:
    """Return the source files of a drop-in and of the helpers next to it."""
    return [*_own_files(path), *_helper_files(path.parent)]


def load(path: Path) -> type:
    """Import a module or package and return the one class with hooks that it defines.

    Raises ``PluginBuildError`` unless it defines exactly one, and whatever the import raises.
    """
    name = module_name(path)
    module = sys.modules.get(name) or _imported(name, path)
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and f"{value.__module__}.".startswith(f"{name}.")
    ]
    # What is wrong with a class that only looks like a plugin is found when its hooks are checked.
    found = [one for one in classes if _has_hooks(one)] or [*filter(resembles_plugin, classes)]
    if len(found) != 1:
        names = ", ".join(value.__name__ for value in found) or "none"
        raise PluginBuildError(
            f"{path} must define one class with hooks as its methods, and defines {len(found)} "
            f"({names}); imported classes do not count"
        )
    return found[0]


def _imported(name: str, path: Path) -> ModuleType:
    """Import a drop-in.

    No bytecode is written: its files do not tell two edits within one second apart.
    """
    package_name = name.partition(".")[0]
    package = sys.modules.setdefault(package_name, ModuleType(package_name))
    folder = path.parent if kept_copies() is None else _folder_of_copies(package, path)
    package.__path__ = [str(folder)]
    file = folder / path.name
    spec = spec_from_file_location(name, file / "__init__.py" if file.is_dir() else file)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = module_from_spec(spec)
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    importlib.invalidate_caches()
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.dont_write_bytecode = writes_bytecode
    return module


def _folder_of_copies(package: ModuleType, path: Path) -> Path:
    """Return a new folder with the copies of the source files of a drop-in, for the import system.

    It stays as long as the package: a function may import a helper when it is called.
    """
    copies = TemporaryDirectory(prefix="pexpolicy-")
    vars(package).setdefault(_COPIES, []).append(copies)
    for file in source_files(path):
        copy = Path(copies.name, file.relative_to(os.path.abspath(path.parent)))  # noqa: PTH100
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(read_file(file))
    return Path(copies.name)


def _own_files(path: Path) -> list[Path]:
    return files_matching(f"{escape(str(path))}/**/*.py", recursive=True) or [path]


def _helper_files(directory: Path) -> list[Path]:
    here = escape(str(directory))
    packages = files_matching(f"{here}/_[!_]*/**/*.py", recursive=True)
    return sorted([*files_matching(f"{here}/_*.py"), *packages])


def _digest_of(place: Path, files: Iterable[Path]) -> str:
    """Return the hash of a path and of the names and contents of the source files there."""
    digest = blake2b(str(place).encode(), digest_size=8)
    for file in files:
        content = read_file(file)
        digest.update(f"{file}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _has_hooks(plugin_class: type) -> bool:
    return any(hasattr(getattr(plugin_class, n, None), IMPL_MARK) for n in dir(plugin_class))


def resembles_plugin(plugin_class: type) -> bool:
    """Return whether a class has hooks, or would have some if it had no mistake."""
    return not HOOKS.keys().isdisjoint(dir(plugin_class)) or _has_hooks(plugin_class)


GROUP = "pexpolicy"
"""The group of entry points that name plugins."""
RESERVED = ("default", "guard")
"""Names that ``decided_by`` of a reply uses without a plugin."""
_INSTANCE = re.compile(r"[a-z][a-z0-9_]{0,99}")


class PluginSource(NamedTuple):
    """A plugin that can be built: its name, its distribution, and how to import its class."""

    name: str
    distribution: str
    version: str
    source: str
    load: Callable[[], Any]
    rivals: tuple[PluginSource, ...] = ()
    """Plugins of the same name in other distributions."""
    plugin: str = ""
    """Name of the plugin where ``name`` is that of an instance."""

    def files(self) -> list[Path]:
        """Return the source files that a server tracks: those of a drop-in plugin, and of the
        helpers next to it. A package changes at its installation only.
        """
        return source_files(Path(self.source)) if self.version == "drop-in" else []

    @property
    def origin(self) -> str:
        """Return the distribution and its version."""
        return f"{self.distribution} {self.version}"

    def __str__(self) -> str:
        plugin = f"{self.plugin} of " if self.plugin else ""
        return f"{self.name} ({plugin}{self.origin})"


def installed() -> dict[str, PluginSource]:
    """Return the plugins of installed packages by name; one name may have rivals.

    To read the metadata of all packages takes half of the time of a reload, so that is done again
    only when a folder has changed.
    """
    folders = [Path(name) for name in sys.path]
    return {**_installed(tuple((one, one.exists() and one.stat().st_mtime_ns) for one in folders))}


@lru_cache(maxsize=4)
def _installed(_changed: tuple[tuple[Path, float], ...]) -> dict[str, PluginSource]:
    found: dict[str, PluginSource] = {}
    for entry in metadata.entry_points(group=GROUP):
        assert entry.dist is not None
        # Name and version are in one file, which the properties of these names would each parse.
        name, version = map(entry.dist.metadata.__getitem__, ("Name", "Version"))
        source = PluginSource(entry.name, name, version, entry.value, entry.load)
        other = found.setdefault(entry.name, source)
        if name not in [rival.distribution for rival in (other, *other.rivals)]:
            found[entry.name] = other._replace(rivals=(*other.rivals, source))
    return found


def discover(directories: Sequence[Path]) -> tuple[dict[str, PluginSource], list[Problem]]:
    """Return every plugin by name, and the problems of the directories."""
    found = installed()
    problems: list[Problem] = []
    for index, directory in enumerate(directories):
        key = ("plugin_dirs", index)
        try:
            modules = _modules_in(directory)
        except OSError as error:
            problems.append(Problem(key, f"{error.filename} cannot be read: {error.strerror}"))
            continue
        for path in modules:
            name, package = path.stem, directory.resolve().name
            source = PluginSource(name, package, "drop-in", str(path), partial(load, path))
            if (other := found.setdefault(name, source)) is not source:
                text = f"{path} and {other.source} bring a plugin of the same name {name}"
                problems.append(Problem(key, text))
    return found, problems


def select(
    name: str, tables: Mapping[str, PluginTable], found: Mapping[str, PluginSource]
) -> PluginSource:
    """Return the plugin of the table ``[plugins.NAME]`` under that name.

    Its key ``plugin`` is ``PLUGIN``, or ``DISTRIBUTION:PLUGIN``. Raises ``PluginBuildError``.
    """
    written = tables[name].plugin
    if name in RESERVED:
        raise PluginBuildError("is a reserved name, of replies without a plugin: choose another")
    if written is not None and _INSTANCE.fullmatch(name) is None:
        raise PluginBuildError("is no name: write small letters, digits and _, a letter first")
    key: Key = () if written is None else ("plugin",)
    distribution, _, plugin = (written or name).rpartition(":")
    source = found.get(plugin)
    if source is None:
        known = suggest(plugin.removeprefix("pexpolicy-"), found)
        if written is None:
            known += '; for one more instance write plugin = "NAME" in its table'
        raise PluginBuildError(f"no plugin of this name is installed{known}", key=key)
    sources = (source, *source.rivals)
    origins = " and ".join(one.origin for one in sources)
    if distribution:
        wanted = _normal(distribution)
        sources = tuple(one for one in sources if _normal(one.distribution) == wanted)
    if len(sources) != 1:
        text = (
            f"{plugin} is in {origins}: write which is meant, as in "
            f'plugin = "{source.distribution}:{plugin}", or uninstall all others'
        )
        raise PluginBuildError(text, key=key)
    chosen = "" if plugin == name else plugin
    return sources[0]._replace(name=name, plugin=chosen, rivals=())


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _modules_in(directory: Path) -> list[Path]:
    """Return modules and packages that may contain a plugin, sorted by name."""
    if kept_copies() is None:
        os.scandir(directory).close()  # glob finds nothing where it may not read
    here = escape(str(directory))
    packages = (file.parent for file in files_matching(f"{here}/*/__init__.py"))
    found = (*files_matching(f"{here}/*.py"), *packages)
    return sorted(path for path in found if re.fullmatch(r"[^_.][^.]*(\.py)?", path.name))


DRAFT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def config_schema(available: Mapping[str, PluginSource]) -> Schema:
    """Return the schema of ``config.toml``; a plugin without one has any settings."""
    schema = Document.model_json_schema()
    definitions: Schema = schema["$defs"]
    tables: Schema = {}
    for name, source in sorted(available.items()):
        settings = _settings_schema(source, definitions)
        table = definitions["PluginTable"]
        properties = table["properties"] | {"settings": settings}
        tables[name] = table | {"properties": properties, "description": f"The plugin {source}."}
    schema["properties"]["plugins"] |= {"properties": tables}
    return {"$schema": DRAFT, **schema, "title": "config.toml of pexpolicy"}


def _settings_schema(source: PluginSource, definitions: Schema) -> Schema:
    """Return the schema of a plugin's settings, and add the models in it to ``definitions``."""
    try:
        model = getattr(source.load(), "Settings", PluginSettings)
        prefix = f"{source.name}."
        template = f"#/$defs/{prefix}{{model}}"
        schema: Schema = model.model_json_schema(ref_template=template)
    except (Exception, SystemExit):  # noqa: BLE001 - a package raises what it likes; check reports it
        return {"type": "object"}
    inner = schema.pop("$defs", {})
    definitions.update({f"{prefix}{key}": value for key, value in inner.items()})
    return schema
