"""The layout of the package: which room may import which, and what a module may be."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pexpolicy"
LEVELS = (
    ("text", "tasks"),
    ("models", "subnets", "child"),
    ("endpoints", "errors", "metrics"),
    ("config",),
    ("chain", "matching", "access", "conformance", "hooks", "log"),
    ("background",),
    ("plugins",),
    ("isolation", "fields", "files", "rows"),
    ("api",),
    ("__init__",),
    ("policy",),
    ("audit", "builder"),
    ("observability", "explain"),
    ("server",),
    ("testing",),
    ("replay",),
    ("cli",),
    ("__main__",),
)
"""The rooms of the package, lowest level first. A room may import rooms of lower levels only."""
FACES = {"__init__.py", "endpoints/__init__.py", "matching/__init__.py", "testing/__init__.py"}
"""The ``__init__`` files that hold names for others; each other one has a docstring only."""
PUBLIC = (
    "config.csv_tables",
    "config.toml_tables",
    "conformance.replies",
    "explain.explanation",
    "explain.request_forms",
    "fields",
    "files",
    "hooks",
    "matching",
    "metrics",
    "rows",
    "subnets",
    "testing",
)
"""What plugins may import in addition to ``pexpolicy`` itself."""
INTERNAL = (
    "chain.circuit_breaker",
    "child",
    "config.outgoing",
    "config.path_hints",
    "config.problems",
    "config.schema",
    "config.secrets",
    "config.time_zones",
    "endpoints",
    "models.difference",
    "models.errors",
    "models.extras",
    "plugins.changes",
    "text",
)
"""What only the plugins of this repository import in addition, as they are released with it."""
MAX_LINES = 600
MAX_ENTRIES = 34

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "template" not in path.parts)
PLUGIN_MODULES = sorted(ROOT.glob("plugins/*/src/**/*.py"))


def name_of(path: Path) -> str:
    """Return the name of a module below ``pexpolicy``, such as ``chain.chain``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


NAMES = {name_of(path): path for path in MODULES}


def room_of(name: str) -> str:
    return name.partition(".")[0]


def level_of(room: str) -> int:
    return next(number for number, rooms in enumerate(LEVELS) if room in rooms)


@cache
def imports_of(path: Path) -> frozenset[tuple[str, int]]:
    """Return the modules of the package that a module imports, also late ones, and their lines."""
    return frozenset(_imports_of(path))


def _imports_of(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").partition(".")[0] == "pexpolicy"
        ):
            module = (node.module or "").removeprefix("pexpolicy").removeprefix(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".removeprefix(".")
                yield (inner if inner in NAMES else module or "__init__"), node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "pexpolicy":
                    yield (
                        alias.name.removeprefix("pexpolicy").removeprefix(".") or "__init__",
                        node.lineno,
                    )


def test_each_entry_of_the_package_has_a_level() -> None:
    assert {room_of(name) for name in NAMES} == set(chain(*LEVELS))


def test_the_package_has_few_entries() -> None:
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__", "py.typed"}
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


@pytest.mark.parametrize("name", NAMES)
def test_a_module_is_one_subject(name: str) -> None:
    assert len(NAMES[name].read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"])
def test_an_init_file_is_a_public_face_or_a_docstring(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix() in FACES:
        return
    body = ast.parse(path.read_text()).body
    assert [type(node) for node in body] == [ast.Expr]


@pytest.mark.parametrize("path", PLUGIN_MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_plugin_imports_what_is_public(path: Path) -> None:
    private = [
        f"line {line}: {target}"
        for target, line in sorted(imports_of(path))
        if target != "__init__"
        and not any(target == name or target.startswith(f"{name}.") for name in PUBLIC + INTERNAL)
    ]
    assert not private


def test_the_contribution_guide_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text[text.index("## To change") :]
    named = re.findall(r"`((?:pexpolicy|plugins|docs|tests|deploy)/[^`]*)`", table)
    assert len(named) > 17
    assert [path for path in named if not (ROOT / path).exists()] == []
