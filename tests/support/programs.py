"""Programs that tests start, and the Debian packages that contain them.

``python -m tests.support.programs`` installs those that are missing; apt needs root for it.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

PACKAGES = {
    "postgresql": "usr/lib/postgresql/*/bin/postgres",
    "slapd": "usr/sbin/slapd",
}
"""The packages, each with a file of it; the last match is used."""
LIMIT_S = 300
"""Seconds for apt."""
_REASON = "not installed: {package}"
_MISSING = re.compile(re.escape(_REASON).replace(r"\{package\}", r"([\w.+-]+)"))
_POLICY = Path("/usr/sbin/policy-rc.d")
"""What Debian asks before a package starts its server."""


def find(package: str) -> Path | None:
    """Return the program of a package."""
    pattern = PACKAGES[package]
    if found := sorted(Path("/").glob(pattern)):
        return found[-1]
    on_path = shutil.which(Path(pattern).name)
    return None if on_path is None else Path(on_path)


def require(package: str) -> Path:
    """Return the program of a package; leaves the test out where there is none."""
    path = find(package)
    if path is None:
        pytest.skip(_REASON.format(package=package))
    return path


def left_out(skipped: Iterable[pytest.TestReport]) -> Counter[str]:
    """Return the number of tests that were left out, by the package that they need."""
    return Counter(
        match[1] for report in skipped if (match := _MISSING.search(str(report.longrepr)))
    )


def summary(missing: Counter[str]) -> str:
    """Return the lines for an operator, with the command that installs the packages."""
    needs = ", ".join(f"{count} tests need {package}" for package, count in missing.items())
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    sudo = "" if os.geteuid() == 0 else "sudo "
    return (
        f"LEFT OUT: {needs}. To install what they need:\n  {sudo}{python} -m tests.support.programs"
    )


def main() -> int:
    """Install what is missing; return 1 if something still is."""
    missing = [package for package in PACKAGES if find(package) is None]
    if not missing:
        return 0
    names = " ".join(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"not installed: {names} (only root may, and with apt-get)")  # noqa: T201
        return 1
    print(f"Installing for tests: {names} (apt, {LIMIT_S} s at most) ...", flush=True)  # noqa: T201
    with _no_servers_started():
        problem = _apt("update") or _apt("install", "--yes", "--no-install-recommends", *missing)
    if problem:
        print(problem)  # noqa: T201
    return int(any(find(package) is None for package in missing))


def _apt(*arguments: str) -> str:
    """Return why it failed; empty if it did not."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command: Sequence[str] = ("timeout", str(LIMIT_S), "apt-get", "-qq", *arguments)
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    last = "\n".join(done.stdout.splitlines()[-3:])
    return f"apt-get {arguments[0]} failed: {last}" if done.returncode else ""


@contextmanager
def _no_servers_started() -> Iterator[None]:
    """Keep packages from starting their servers: tests start servers of their own."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


if __name__ == "__main__":
    sys.exit(main())
