"""Virtual environment without own packages and without a network, like a fresh install."""

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import HANG_S


@dataclass(frozen=True)
class Environment:
    """A virtual environment in a folder."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def python(self) -> str:
        return str(self.bin / "python")

    def variables(self) -> dict[str, str]:
        """Return the variables of a shell with the environment activated."""
        own = {n: v for n, v in os.environ.items() if not n.startswith(("PIP_", "PYTHON"))}
        tools = Path(sys.executable).parent
        return {
            **own,
            "PATH": os.pathsep.join([str(self.bin), str(tools), os.environ["PATH"]]),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this as: without isolation
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # an author has none of our plugins except one
            "PYTEST_PLUGINS": "pytest_asyncio.plugin",
            "MYPY_CACHE_DIR": str(self.folder / "mypy-cache"),
        }

    def run(
        self, command: str | Sequence[str], folder: Path, more: Mapping[str, str] | None = None
    ) -> str:
        """Run a command line or a program and return its output; fail with the output."""
        result = subprocess.run(
            command,
            shell=isinstance(command, str),
            cwd=folder,
            env={**self.variables(), **(more or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=HANG_S,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{command} in {folder}:\n{result.stdout}"
        return result.stdout

    def install(self, *wheels: Path) -> None:
        """Install wheels whose dependencies are installed already."""
        self.run([self.python, "-m", "pip", "install", "-q", *map(str, wheels)], self.folder)


def create_environment(folder: Path) -> Environment:
    """Create an environment that sees the packages of the tests and has none of its own."""
    venv.EnvBuilder(symlinks=True).create(folder)
    created = Environment(folder)
    found = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    lines = [f"import site; site.addsitedir({place!r})" for place in sorted(found)]
    scheme = sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    (Path(scheme) / "tests.pth").write_text("\n".join(lines) + "\n")
    return created


def build_wheel(created: Environment, source: Path, target: Path) -> Path:
    """Build the wheel of a source folder."""
    command = ["pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(target), str(source)]
    created.run([created.python, "-m", *command], source)
    (built,) = target.glob("*.whl")
    return built
