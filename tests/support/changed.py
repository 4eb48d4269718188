"""The tests of what changed, which ``make quick`` names and runs.

Arguments are passed to pytest. What counts are the commits since ``main`` and the files of the work
tree, or the last commit where there are none. The tests of a room are those in the folder that
mirrors it, and the tests of a helper those that import it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
OF_PAGES = ("tests/docs",)
OF_THE_LAYOUT = ("tests/test_architecture.py", "tests/test_imports.py")
OF_DEPLOYMENT = ("tests/deploy",)
FOLDERS = {
    "docs": OF_PAGES,
    "README.md": OF_PAGES,
    "mkdocs.yml": OF_PAGES,
    "examples": ("examples", *OF_PAGES),
    "CONTRIBUTING.md": OF_THE_LAYOUT,
    "CHANGELOG.md": OF_THE_LAYOUT,
    "Makefile": (*OF_DEPLOYMENT, *OF_THE_LAYOUT),
    "deploy": OF_DEPLOYMENT,
    ".github": OF_DEPLOYMENT,
    ".ci": OF_DEPLOYMENT,
    "Dockerfile": OF_DEPLOYMENT,
    "compose.yaml": OF_DEPLOYMENT,
    "config.toml": OF_DEPLOYMENT,
}
"""Entries of the root that are no packages, with their tests."""


def _git(*words: str) -> list[str]:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


def changed_files() -> list[str]:
    """Return the files that changed since ``main``, or with the last commit."""
    bases = (_git("merge-base", "HEAD", branch) for branch in ("origin/main", "main"))
    base = next((found[0] for found in bases if found), "HEAD")
    files = _git("diff", "--name-only", base) + _git("ls-files", "--others", "--exclude-standard")
    return sorted(set(files)) or _git("diff", "--name-only", "HEAD~1")


def _importing(helper: PurePosixPath) -> Iterator[str]:
    """Name the test files that import a module of ``tests/support`` or ``lab``."""
    name = helper.stem
    pattern = rf"from {'.'.join(helper.parent.parts)}(\.{name} import| import .*\b{name}\b)"
    yield from _git("grep", "-lE", pattern, "--", "*/test_*.py", "*/conftest.py")


def tests_of(file: str) -> Iterator[str]:
    """Return the files and folders with the tests of a file, and others that do not exist."""
    path = PurePosixPath(file)
    parts = path.parts
    if path.name.startswith("test_"):
        yield file
    elif path.name == "conftest.py":
        yield str(path.parent)
    elif parts[0] == "lab" or parts[:2] == ("tests", "support"):
        yield from _importing(path)
        yield str(path.parent) if parts[0] == "lab" and len(parts) > 2 else ""
    elif parts[0] == "pexpolicy":
        mirrors = [PurePosixPath("tests", *parts[1:end]) for end in range(len(parts) - 1, 1, -1)]
        yield from [str(folder) for folder in mirrors if (ROOT / folder).exists()][:1]
        yield from (f"tests/test_{path.stem}.py", f"tests/{path.stem}", *OF_THE_LAYOUT)
    elif parts[0] == "plugins":
        yield f"plugins/{parts[1]}/tests"
    elif parts[0] == "console":
        yield "console/tests"
    yield from FOLDERS.get(parts[0], ())


def selected(files: Iterable[str]) -> list[str]:
    """Return the tests of files, without those in a folder that is named too."""
    named = {
        path
        for file in files
        for path in map(PurePosixPath, filter(None, tests_of(file)))
        if (ROOT / path).exists()
    }
    return sorted(str(path) for path in named if not named & set(path.parents))


def main(arguments: list[str]) -> int:
    """Name the changed files and their tests, and run these; return the code of pytest."""
    files = changed_files()
    tests = selected(files)
    sys.stdout.write(f"{len(files)} files changed; tests: {' '.join(tests) or 'none'}\n")
    sys.stdout.flush()
    return int(pytest.main([*arguments, *tests])) if tests else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
