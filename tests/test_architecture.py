"""The layout of the package: which room may import which, and what a module may be."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

from tests.support import weight

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pexpolicy"
LEVELS = (
    ("text", "tasks"),
    ("models",),
    ("endpoints", "errors"),
    ("config",),
    ("chain", "matching", "access", "conformance", "fleet", "hooks", "log"),
    ("background",),
    ("plugins",),
    ("isolation", "fields", "files", "rows"),
    ("api",),
    ("__init__",),
    ("policy",),
    ("audit", "builder"),
    ("observability", "explain"),
    ("events",),
    ("server",),
    ("testing",),
    ("replay",),
    ("cli",),
    ("__main__",),
)
"""The rooms of the package, lowest level first. A room may import rooms of lower levels only."""
FACES = {
    "__init__.py",
    "config/schema/__init__.py",
    "endpoints/__init__.py",
    "events/__init__.py",
    "matching/__init__.py",
    "testing/__init__.py",
}
"""The ``__init__`` files that hold names for others; each other one has a docstring only."""
PUBLIC = (
    "config.csv_tables",
    "config.toml_tables",
    "conformance.replies",
    "events",
    "explain.explanation",
    "explain.request_forms",
    "fields",
    "files",
    "hooks",
    "matching",
    "config.outgoing",
    "rows",
    "models.subnets",
    "plugins.metrics",
    "testing",
)
"""What plugins may import in addition to ``pexpolicy`` itself."""
INTERNAL = (
    "access.certificates",
    "background.refreshed",
    "background.shared",
    "background.shared_state",
    "chain.circuit_breaker",
    "chain.hook_tasks",
    "cli.common",
    "cli.doctor",
    "cli.http_client",
    "cli.status",
    "config.files",
    "config.plugin_settings",
    "config.problems",
    "config.schema",
    "config.secrets",
    "endpoints",
    "errors",
    "isolation.child",
    "models.alias",
    "models.attribute_docs",
    "models.context",
    "models.contract",
    "models.difference",
    "models.errors",
    "models.event",
    "models.outcome",
    "models.request",
    "models.validation",
    "policy",
    "text",
)
"""What only the plugins of this repository import in addition, as they are released with it."""
MAX_LINES = 600
SMALL = 80
"""Lines below which a module with one importer joins it, unless it is a border."""
BORDERS: dict[str, str] = {}
"""Small modules with one importer that stay on their own, each with the reason. It only shrinks."""
MAX_ENTRIES = 35

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "template" not in path.parts)
PLUGIN_MODULES = sorted(ROOT.glob("plugins/*/src/**/*.py"))
CONSOLE_MODULES = sorted(ROOT.glob("console/src/**/*.py"))
COUNTS = weight.ceilings()["counts"]


def name_of(path: Path) -> str:
    """Return the name of a module below ``pexpolicy``, such as ``chain.chain``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


NAMES = {name_of(path): path for path in MODULES}


def room_of(name: str) -> str:
    return name.partition(".")[0]


def level_of(room: str) -> int:
    return next(number for number, rooms in enumerate(LEVELS) if room in rooms)


def import_name_of(path: Path) -> str:
    """Return the name by which a module is imported, such as ``pexpolicy_rooms.plugin``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[parts.index("src") + 1 :] if "src" in parts else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {import_name_of(path): path for path in (*MODULES, *PLUGIN_MODULES, *CONSOLE_MODULES)}
"""The modules of the core, the plugins and the console."""


@cache
def sources_imported_by(path: Path) -> frozenset[tuple[str, int]]:
    """Return the modules of ours that a module imports, also late ones, and their lines."""
    return frozenset(_sources_imported_by(path))


def _sources_imported_by(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pexpolicy"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in SOURCES else node.module or ""), node.lineno
        elif isinstance(node, ast.Import):
            yield from ((a.name, node.lineno) for a in node.names if a.name.startswith("pexpolicy"))


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    """Return the modules of the core that a module imports, named below ``pexpolicy``."""
    for name, line in sources_imported_by(path):
        package, _, rest = name.partition(".")
        if package == "pexpolicy":
            yield rest or "__init__", line


def is_public(name: str) -> bool:
    return name == "__init__" or any(
        name == public or name.startswith(f"{public}.") for public in PUBLIC + INTERNAL
    )


def test_each_entry_of_the_package_has_a_level() -> None:
    assert {room_of(name) for name in NAMES} == set(chain(*LEVELS))


def test_the_package_has_few_entries() -> None:
    entries = {path.relative_to(PACKAGE).parts[0] for path in MODULES}
    assert len(entries) <= MAX_ENTRIES


@pytest.mark.parametrize("name", NAMES)
def test_an_import_goes_to_a_lower_level(name: str) -> None:
    room = room_of(name)
    upward = [
        f"{NAMES[name].relative_to(ROOT)}:{line} imports {target}"
        for target, line in sorted(imports_of(NAMES[name]))
        if room_of(target) != room and level_of(room_of(target)) >= level_of(room)
    ]
    assert not upward


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = {name: {to for to, _ in imports_of(path)} & NAMES.keys() for name, path in NAMES.items()}
    while free := [name for name, targets in left.items() if not targets & left.keys() - {name}]:
        for name in free:
            del left[name]
    assert not left


@pytest.mark.parametrize("name", SOURCES)
def test_a_module_is_not_too_long(name: str) -> None:
    assert len(SOURCES[name].read_text().splitlines()) <= MAX_LINES


def test_a_small_module_with_one_importer_joins_it() -> None:
    importers: dict[str, set[str]] = {}
    for name, path in SOURCES.items():
        for target, _ in sources_imported_by(path):
            importers.setdefault(target, set()).add(name)
    small = {
        name
        for name, path in SOURCES.items()
        if len(importers.get(name, ())) == 1
        and path.name != "__init__.py"
        and name.removeprefix("pexpolicy.") not in PUBLIC
        and len(path.read_text().splitlines()) < SMALL
    }
    assert BORDERS.keys() <= small
    joining = sorted(small - BORDERS.keys())
    assert len(joining) <= COUNTS["small modules with one importer"], "\n".join(joining)


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"])
def test_an_init_file_is_a_public_face_or_a_docstring(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix() in FACES:
        return
    body = ast.parse(path.read_text()).body
    assert [type(node) for node in body] == [ast.Expr]


@pytest.mark.parametrize("path", PLUGIN_MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_plugin_imports_what_is_public(path: Path) -> None:
    private = [f"line {line}: {to}" for to, line in imports_of(path) if not is_public(to)]
    assert not private


def test_the_console_imports_few_private_modules() -> None:
    private = {to for path in CONSOLE_MODULES for to, _ in imports_of(path) if not is_public(to)}
    assert len(private) <= COUNTS["private modules of the console"], "\n".join(sorted(private))


def test_the_contribution_guide_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text[text.index("## To change") :]
    named = re.findall(r"`((?:pexpolicy|plugins|docs|tests|deploy)/[^`]*)`", table)
    assert len(named) > 17
    assert [path for path in named if not (ROOT / path).exists()] == []
