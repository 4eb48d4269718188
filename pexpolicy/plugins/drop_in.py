"""Import of drop-in plugins: modules and packages in a plugin directory.

A directory is a package of its own, so ``from ._helper import x`` imports ``_helper.py`` next to
the plugin. Source that has not changed is not executed again at a reload: what it holds at module
level, such as metrics, stays.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from pexpolicy.config.file_tracking import read_file
from pexpolicy.config.problems import PluginBuildError
from pexpolicy.hooks import HOOKS, IMPL_MARK, Plugin


def module_name(path: Path) -> str:
    """Return the name under which a drop-in is imported."""
    return f"{_package_name(path.parent)}.{path.stem}"


def source_files(path: Path) -> list[Path]:
    """Return the source files of a drop-in, and those of the helpers next to it."""
    own = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [*own, *_helper_files(path.parent)]


def load(path: Path) -> type:
    """Import a module or package and return the one class with hooks that it defines.

    Raises ``PluginBuildError`` unless it defines exactly one, or for a helper that is imported by
    its bare name, and whatever the import raises; the module that was imported before stays then.
    """
    name = module_name(path)
    module = sys.modules.get(name)
    digest = digest_of(source_files(path))
    if module is None or vars(module).get(DIGEST) != digest:
        module = _import(name, path)
        setattr(module, DIGEST, digest)
    found: list[type] = [value for value in vars(module).values() if _is_plugin(value, name)]
    if not found:
        # What is wrong with it is said when its hooks are checked.
        found = [value for value in vars(module).values() if _is_meant(value, name)]
    if not found and (functions := HOOKS.keys() & vars(module).keys()):
        text = f"{path}: {min(functions)} must be a method of a class, with @hookimpl above it"
        raise PluginBuildError.because(text)
    if len(found) != 1:
        names = ", ".join(value.__name__ for value in found) or "none"
        text = (
            f"{path} must define one class with @hookimpl methods, and defines {len(found)} "
            f"({names}); imported classes do not count"
        )
        raise PluginBuildError.because(text)
    return found[0]


def _import(name: str, path: Path) -> ModuleType:
    package = _package(path.parent)
    helpers = digest_of(_helper_files(path.parent))
    outdated = [key for key in sys.modules if _is_below(key, name)]
    if vars(package).get(DIGEST) != helpers:
        outdated += [key for key in sys.modules if key.startswith(f"{package.__name__}._")]
    with replaced_modules(outdated, package.__name__):
        try:
            module = _execute(name, path)
        except ModuleNotFoundError as error:
            helper = f"{error.name}.py"
            if not (path.parent / helper).is_file():
                raise
            text = f"{path.name} imports {helper} next to it: write from .{error.name} import ..."
            raise PluginBuildError.because(text) from error
    setattr(package, DIGEST, helpers)
    return module


def _execute(name: str, path: Path) -> ModuleType:
    file = path / "__init__.py" if path.is_dir() else path
    spec = importlib.util.spec_from_file_location(
        name,
        file,
        loader=_SourceLoader(name, str(file)),
        submodule_search_locations=[str(path)] if path.is_dir() else None,
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _package_name(directory: Path) -> str:
    return f"pexpolicy_dropins_{zlib.crc32(str(directory.resolve()).encode()):08x}"


def _package(directory: Path) -> ModuleType:
    """Return the package that stands for a directory; its helpers are its submodules."""
    name = _package_name(directory)
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = [str(directory)]
        sys.modules[name] = package
    return sys.modules[name]


def _helper_files(directory: Path) -> list[Path]:
    return sorted([*directory.glob("_*.py"), *directory.glob("_[!_]*/**/*.py")])


def _is_below(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


def _is_plugin(value: object, name: str) -> bool:
    """Return whether this is a class of the module with hooks of its own or of imported bases."""
    if not isinstance(value, type) or not _is_below(value.__module__, name):
        return False
    bases = [base for base in value.__mro__ if not _is_below(base.__module__, name)]
    return any(hasattr(item, IMPL_MARK) for base in (value, *bases) for item in vars(base).values())


def _is_meant(value: object, name: str) -> bool:
    """Return whether this is a class of the module that looks like a plugin without a hook."""
    if not isinstance(value, type) or not _is_below(value.__module__, name):
        return False
    return issubclass(value, Plugin) or any(hook in vars(value) for hook in HOOKS)


class _SourceLoader(SourceFileLoader):
    """Loader that compiles the source each time and ignores bytecode files."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


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
