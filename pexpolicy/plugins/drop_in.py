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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeVar

from pexpolicy.config.files import read_file
from pexpolicy.config.problems import PluginBuildError
from pexpolicy.hooks import HOOKS, IMPL_MARK, Plugin

T = TypeVar("T")
_DIGEST = "__pexpolicy_digest__"
"""Attribute of a module: the hash of the source files that it was made of."""


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
    module = import_again(name, source_files(path), lambda: _import(name, path))
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and _is_below(value.__module__, name)
    ]
    # What is wrong with a class that only looks like a plugin is found when its hooks are checked.
    found = [one for one in classes if _has_hooks(one, name)] or [
        one for one in classes if issubclass(one, Plugin) or HOOKS.keys() & vars(one).keys()
    ]
    if len(found) != 1:
        names = ", ".join(value.__name__ for value in found) or "none"
        text = (
            f"{path} must define one class with hooks as its methods, and defines {len(found)} "
            f"({names}); imported classes do not count"
        )
        raise PluginBuildError.because(text)
    return found[0]


def import_again(name: str, files: Iterable[Path], load: Callable[[], T]) -> T:
    """Import by ``load`` a module that is made of source files, anew if one of them has changed."""
    digest = _digest_of(files)
    module = sys.modules.get(name)
    if module is not None and vars(module).setdefault(_DIGEST, digest) == digest:
        return load()
    outdated = [key for key in sys.modules if _is_below(key, name)]
    with _replaced_modules(outdated, name):
        loaded = load()
        setattr(sys.modules[name], _DIGEST, digest)
    return loaded


def _import(name: str, path: Path) -> ModuleType:
    """Return the module of a drop-in, imported if it is not."""
    if name in sys.modules:
        return sys.modules[name]
    package = _package(path.parent)
    helpers = _digest_of(_helper_files(path.parent))
    outdated = []
    if vars(package).get(_DIGEST) != helpers:
        outdated = [key for key in sys.modules if key.startswith(f"{package.__name__}._")]
    with _replaced_modules(outdated, package.__name__):
        try:
            module = _execute(name, path)
        except ModuleNotFoundError as error:
            helper = f"{error.name}.py"
            if not (path.parent / helper).is_file():
                raise
            text = f"{path.name} imports {helper} next to it: write from .{error.name} import ..."
            raise PluginBuildError.because(text) from error
    setattr(package, _DIGEST, helpers)
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


def _has_hooks(plugin_class: type, name: str) -> bool:
    """Return whether a class of the module has hooks of its own or of imported bases."""
    bases = [base for base in plugin_class.__mro__ if not _is_below(base.__module__, name)]
    return any(
        hasattr(item, IMPL_MARK) for base in (plugin_class, *bases) for item in vars(base).values()
    )


def _digest_of(files: Iterable[Path]) -> bytes:
    """Return the hash of the names and contents of source files."""
    digest = blake2b()
    for file in files:
        content = read_file(file)
        digest.update(f"{file}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.digest()


@contextmanager
def _replaced_modules(outdated: Iterable[str], prefix: str) -> Iterator[None]:
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
        added = [key for key in sys.modules if key.startswith(prefix) and key not in known]
        _unregister_metrics([sys.modules.pop(key) for key in added])
        sys.modules.update(before)
        for metric in metrics:
            sys.modules["prometheus_client"].REGISTRY.register(metric)
        raise
    finally:
        sys.dont_write_bytecode = writes_bytecode


def _unregister_metrics(modules: Iterable[ModuleType]) -> list[Any]:
    """Unregister the metrics that only these modules hold, and return them.

    The registry of ``prometheus_client`` refuses a second metric of the same name.
    """
    prometheus: Any = sys.modules.get("prometheus_client")
    replaced = list(modules)
    if prometheus is None or not replaced:
        return []
    others = [m for m in sys.modules.values() if m not in replaced and hasattr(m, "__dict__")]
    shared = {id(value) for module in others for value in vars(module).values()}
    unregistered = []
    for value in {id(v): v for module in replaced for v in vars(module).values()}.values():
        if id(value) not in shared and callable(getattr(type(value), "collect", None)):
            with suppress(KeyError):  # it was never registered, or elsewhere
                prometheus.REGISTRY.unregister(value)
                unregistered.append(value)
    return unregistered


class _SourceLoader(SourceFileLoader):
    """Loader that compiles the source each time and ignores bytecode files."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code
