"""Plugin distributions on PYTHONPATH, which need no installation.

A directory on PYTHONPATH with the package and its metadata is what an installed distribution is:
the server finds the entry points as it finds those of any other plugin.
"""

import tomllib
from pathlib import Path

_DISTRIBUTION = Path(__file__).with_name("plugins")


def site(folder: Path) -> Path:
    """Return the directory for PYTHONPATH, created below ``folder`` at first use."""
    directory = folder / "site"
    if directory.exists():
        return directory
    project = tomllib.loads((_DISTRIBUTION / "pyproject.toml").read_text())["project"]
    name, version = project["name"].replace("-", "_"), project["version"]
    info = directory / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (directory / name).symlink_to(_DISTRIBUTION / "src" / name)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n"
    )
    points = "\n".join(f"{key} = {value}" for key, value in _entry_points(project))
    (info / "entry_points.txt").write_text(f"[pexpolicy]\n{points}\n")
    return directory


def _entry_points(project: dict[str, dict[str, dict[str, str]]]) -> list[tuple[str, str]]:
    return list(project["entry-points"]["pexpolicy"].items())
