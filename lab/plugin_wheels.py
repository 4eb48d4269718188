"""Each package of our own as a stranger gets it: its wheel, that of the core, and no other of ours.

``make wheelhouse`` writes what this program reads. It prints a line for each result and returns 1
if one fails. Arguments are names of folders in ``plugins``; without one all packages are tried.
"""

import json
import re
import sys
import tempfile
import tomllib
from pathlib import Path

from lab.packages import DIST, Results, run
from tests.support import doc_pages
from tests.support.paths import ROOT

CORE = "pexpolicy"
SECRET = "a secret that is long enough for each use"
DRIVERS = "pexpolicy-sources"
"""What an example with a source needs as well, with its extra for SQLite."""
ENTRY_POINTS = """
import json, sys
from importlib import metadata
found = metadata.distribution(sys.argv[1]).entry_points
print(json.dumps([[one.group, one.name] for one in found if one.load() is not None]))
"""
OWN = """
import json
from importlib import metadata
names = {one.name.lower().replace("_", "-") for one in metadata.distributions()}
print(json.dumps(sorted(name for name in names if name.startswith("pexpolicy"))))
"""


def proved(results: Results, source: Path, folder: Path) -> None:
    """Install the package of a source folder in an environment of its own, and use it."""
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    name = project["name"]
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv/bin/python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    install = (*pip, "install", "-q", "--find-links", DIST / "wheelhouse")
    needed = {re.split(r"[\[<>=~! ]", one)[0] for one in project["dependencies"]}
    wanted = sorted({name, *(one for one in needed if one.startswith(CORE))})
    run(*install, *map(wheel, wanted))
    own = json.loads(run(python, "-c", OWN))
    results.expect(f"{name}: of our packages there are {', '.join(own)}", holds=own == wanted)
    results.expect(f"{name}: pip check", holds="No broken" in run(*pip, "check"))
    points = json.loads(run(python, "-c", ENTRY_POINTS, name))
    declared = sum(map(len, project.get("entry-points", {}).values()))
    loaded = ", ".join(point for _, point in points)
    results.expect(f"{name}: imports {loaded}", holds=len(points) == declared > 0)
    plugins = [point for group, point in points if group == CORE]
    command = folder / "venv/bin/pexpolicy"
    (folder / "config.toml").write_text("")
    listed = run(command, "plugins", "--json", folder=folder)
    holds = all(f'"{plugin}"' in listed for plugin in plugins)
    if plugins:
        results.expect(f"{name}: pexpolicy plugins lists {', '.join(plugins)}", holds=holds)
    for group, point in points:
        if group == "pexpolicy.commands":
            helped = "Usage:" in run(command, point, "--help", folder=folder)
            results.expect(f"{name}: pexpolicy {point} --help", holds=helped)
    if plugins:
        text = example(source / "README.md", folder)
        if "[sources." in text:
            run(*install, f"{wheel(DRIVERS)}[sqlite]")
        checked = run(command, "check", folder / "config.toml", folder=folder)
        results.expect(f"{name}: the first example is valid", holds=": valid" in checked)


def wheel(name: str) -> Path:
    """Return the wheel of one of our packages: an index may have another of this name."""
    (found,) = DIST.glob(f"{name.replace('-', '_')}-*.whl")
    return found


def example(page: Path, folder: Path) -> str:
    """Write the first configuration on a page with the files that it names; return it."""
    blocks = doc_pages.blocks(page)
    text = next(text for language, text in blocks if language == "toml" and "[plugins." in text)
    if "[server]" in text:  # the other server of the page
        text = next(text for _, text in blocks if "[plugins.upstream]" in text)
    (folder / "config.toml").write_text(text)
    table = next((content for language, content in blocks if language == "csv"), "")
    for file in re.findall(r'"([\w-]+\.csv)"', text):
        (folder / file).write_text(table)
    for file in re.findall(r'_file = "([\w-]+)"', text):
        (folder / file).write_text(SECRET)
    for file in re.findall(r'"([\w-]+\.jinja2)"', text):
        (folder / file).write_text('{ "action": "continue" }\n')
    return text


def main() -> int:
    """Print each result; return 1 if one does not hold."""
    results = Results()
    named = sys.argv[1:]
    sources = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
    for source in (*sources, ROOT / "console"):
        if not named or source.name in named:
            with tempfile.TemporaryDirectory() as place:
                proved(results, source, Path(place))
    return int(results.failures > 0)


if __name__ == "__main__":
    sys.exit(main())
