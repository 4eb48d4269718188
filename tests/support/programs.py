"""What tests need beyond Python packages with wheels: programs that they start, in Debian packages,
and packages that are compiled.

``python -m tests.support.programs`` installs what is missing; apt needs root for it.
"""

import importlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = {
    "chromium": "usr/bin/chromium",
    "postgresql": "usr/lib/postgresql/*/bin/postgres",
    "slapd": "usr/sbin/slapd",
    "wrk": "usr/bin/wrk",
}
"""Debian packages, each with its program; of several matches the last is used."""
COMPILED = {"python-ldap": "ldap"}
"""Packages of Python in ``compiled.lock``, each with its module."""
COMPILED_WITH = {
    "gcc": "usr/bin/gcc",
    "libldap-dev": "usr/include/ldap.h",
    "libsasl2-dev": "usr/include/sasl/sasl.h",
    f"python{sysconfig.get_python_version()}-dev": f"{sysconfig.get_path('include')}/Python.h",
}
"""Debian packages that these need, each with a file of it."""
LIMIT_S = 300
"""Seconds for each command that installs something."""
_REASON = "not installed: {package}"
_MISSING = re.compile(re.escape(_REASON).replace(r"\{package\}", r"([\w.+-]+)"))
_POLICY = Path("/usr/sbin/policy-rc.d")
"""What Debian asks before a package starts its server."""


def find(package: str) -> Path | None:
    """Return the program of a package."""
    pattern = {**COMPILED_WITH, **PACKAGES}[package].lstrip("/")
    if found := sorted(Path("/").glob(pattern)):
        return found[-1]
    on_path = shutil.which(Path(pattern).name)
    return None if on_path is None else Path(on_path)


def require(package: str) -> Path:
    """Return the program of a Debian package; leaves the test out where there is none."""
    path = find(package)
    if path is None:
        pytest.skip(_REASON.format(package=package))
    return path


def needs_compiled(package: str) -> pytest.MarkDecorator:
    """Return a mark that leaves tests out where a package of Python is not installed."""
    return pytest.mark.skipif(
        find_spec(COMPILED[package]) is None, reason=_REASON.format(package=package)
    )


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
    if packages := _missing_packages():
        names = " ".join(packages)
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            print(f"not installed: {names} (only root may, and with apt-get)")  # noqa: T201
        else:
            print(f"Installing for tests: {names} (at most 10 minutes) ...", flush=True)  # noqa: T201
            with _no_servers_started():
                _ = _run("apt-get", "-qq", "update") and _run(
                    "apt-get", "-qq", "install", "--yes", "--no-install-recommends", *packages
                )
    if _missing_modules() and all(map(find, COMPILED_WITH)):
        lock = str(ROOT / "deploy/compiled.lock")
        print(f"Compiling for tests: {' '.join(_missing_modules())} ...", flush=True)  # noqa: T201
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation")
        _run(*pip, "--require-hashes", "-r", lock)
        importlib.invalidate_caches()
    return int(bool(_missing_packages() or _missing_modules()))


def _missing_packages() -> list[str]:
    needed = [*PACKAGES, *(COMPILED_WITH if _missing_modules() else ())]
    return [package for package in needed if find(package) is None]


def _missing_modules() -> list[str]:
    return [package for package, module in COMPILED.items() if find_spec(module) is None]


def _run(*command: str) -> bool:
    """Return whether a command succeeded; print the end of its output if it did not."""
    # What pip installs belongs to the owner of the environment.
    owner = None
    if command[0] == sys.executable and os.geteuid() == 0:
        owner = Path(sys.prefix).stat()
    done = subprocess.run(
        ("timeout", str(LIMIT_S), *command),
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        user=None if owner is None else owner.st_uid,
        group=None if owner is None else owner.st_gid,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-3:])
        print(f"{' '.join(command[:2])} failed: {last}")  # noqa: T201
    return done.returncode == 0


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
