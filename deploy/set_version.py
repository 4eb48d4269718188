"""Set the version of core, plugins and console, of the image, and of the change log.

    python deploy/set_version.py 0.2.0

The version of the core is in ``pexpolicy/__init__.py``; tests/deploy/test_packages.py compares the
others with it.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")


def replace(path: Path, pattern: str, text: str) -> None:
    """Replace each match in a file; exit if there is none."""
    changed, count = re.subn(pattern, text, path.read_text(), flags=re.MULTILINE)
    if not count:
        sys.exit(f"{path}: nothing matches {pattern}")
    path.write_text(changed)


def set_version(version: str) -> None:
    """Write the version into every file that has it."""
    replace(ROOT / "pexpolicy/__init__.py", r'^__version__ = ".*"', f'__version__ = "{version}"')
    replace(ROOT / "pyproject.toml", r'"(pexpolicy-[a-z-]+.*)==.*"', rf'"\1=={version}"')
    for path in (*ROOT.glob("plugins/*/pyproject.toml"), ROOT / "console/pyproject.toml"):
        replace(path, r'^version = ".*"', f'version = "{version}"')
    kustomization = ROOT / "deploy/kubernetes/kustomization.yaml"
    replace(kustomization, r"^(\s+newTag:) .*", rf"\1 {version}")
    heading = f"## [Unreleased]\n\n## [{version}] - {datetime.now(UTC):%Y-%m-%d}"
    replace(ROOT / "CHANGELOG.md", r"^## \[Unreleased\]$", heading)


if __name__ == "__main__":
    if len(sys.argv) != 2 or VERSION.fullmatch(sys.argv[1]) is None:
        sys.exit("usage: set_version.py VERSION, as in 0.2.0 or 0.2.0rc1")
    set_version(sys.argv[1])
