"""The packages as others get them: built twice, installed without a network, used, listed.

``make wheelhouse sbom`` writes what this program reads. It prints a line for each result and
returns 1 if one fails.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from hashlib import sha256
from pathlib import Path

from pexpolicy import __version__
from tests.support import doc_pages, wire
from tests.support.paths import ROOT

DIST = ROOT / "dist"
TIMEOUT_S = 900.0
NAMED = re.compile(r"\bpexpolicy[a-z-]*\[[a-z,]+\]")
"""What a page, or the message of a program, tells a reader to install."""
LOCKED = re.compile(r"^([a-z0-9-]+)==([^ ;\\]+)", re.MULTILINE)


def run(*command: str | Path, folder: Path = ROOT, umask: int = 0o022) -> str:
    """Run a command and return its output; raise ``CalledProcessError`` if it fails."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        umask=umask,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={k: v for k, v in os.environ.items() if not k.startswith("PIP_")},
        timeout=TIMEOUT_S,
    ).stdout


def built_again(folder: Path) -> bool:
    """Build a copy of the committed files in another folder, with another umask, and compare."""
    copy = folder / "another place"
    for name in filter(None, run("git", "ls-files", "-z").split("\0")):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    sources = [copy, *(path.parent for path in copy.glob("plugins/*/pyproject.toml"))]
    for source in (*sources, copy / "console"):
        command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", copy / "dist")
        run(*command, source, umask=0o077)
    sums = {p.name: sha256(p.read_bytes()).hexdigest() for p in (copy / "dist").iterdir()}
    lines = (DIST / "SHA256SUMS").read_text().splitlines()
    return sums == {name: digest for digest, name in map(str.split, lines)}


def environment(folder: Path, *packages: str) -> Path:
    """Install packages from the wheelhouse only; return the folder of their commands."""
    run(sys.executable, "-m", "venv", folder)
    pip = (folder / "bin/python", "-m", "pip", "--disable-pip-version-check")
    offline = ("install", "-q", "--no-index", "--find-links", DIST / "wheelhouse")
    run(*pip, *offline, *packages)
    run(*pip, "check")
    return folder / "bin"


def is_used(folder: Path) -> bool:
    """Install everything, make a first configuration, call it, and verify the audit."""
    command = environment(folder / "all", "pexpolicy[all]") / "pexpolicy"
    config = folder / "config"
    run(command, "init", "--yes", config)
    text = (config / "config.toml").read_text()
    without = re.sub(r"^(\[auth\]|user|password_hash)", r"# \1", text, flags=re.MULTILINE)
    (config / "config.toml").write_text(without)
    run(command, "check", "--strict", config / "config.toml")
    serve = (command, "serve", "-c", config / "config.toml", "--port", "0", "--admin-port", "0")
    with subprocess.Popen(list(map(str, serve)), stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        found = next(filter(None, (re.search(r"http://\S+?:(\d+)", x) for x in server.stderr)))
        reply = wire.ask_blocking(int(found[1]), f"{wire.SERVICE}?local_alias=2301")
        server.terminate()
    verified = run(command, "audit", "verify", "--json", "--file", config / "audit.jsonl")
    return bool(reply.result["name"] == "Example room") and '"faults":0' in verified


def is_enough(folder: Path) -> bool:
    """Look for all that is named, with its dependencies, where everything was installed."""
    texts = (path.read_text() for path in (*doc_pages.ALL, *ROOT.glob("**/src/**/*.py")))
    named = sorted({found for text in texts for found in NAMED.findall(text)})
    run(folder / "all/bin/python", "-m", "pip", "install", "--no-index", *named)
    return bool(named)


def is_complete(source: Path, folder: Path) -> bool:
    """Install one package with its extras and the core: its entry points are found, imported."""
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    declared = sum(map(len, project.get("entry-points", {}).values()))
    extras = ",".join(project.get("optional-dependencies", ()))
    python = environment(folder / source.name, f"{project['name']}[{extras}]") / "python"
    code = (
        "from importlib.metadata import distribution as d\n"
        f"print(len([one.load() for one in d({project['name']!r}).entry_points]))"
    )
    return int(run(python, "-c", code)) == declared > 0


def is_listed() -> bool:
    """Compare the SBOM with the lock of the image, of which it has what this system needs."""
    document = json.loads((DIST / "pexpolicy.cdx.json").read_text())
    found = {
        (part["name"].lower().replace("_", "-"), part["version"]) for part in document["components"]
    }
    names = [wheel.name.split("-")[0].replace("_", "-") for wheel in DIST.glob("*.whl")]
    own = {(name, __version__) for name in names}
    return (
        own <= found <= own | set(LOCKED.findall((ROOT / "deploy/requirements.lock").read_text()))
    )


def main() -> int:
    """Print each result; return 1 if one does not hold."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        results = {
            "built to the same bytes again": built_again(folder),
            "installed, called and verified": is_used(folder),
            "what the pages name is installed": is_enough(folder),
            "the SBOM is complete": is_listed(),
        }
        sources = [path.parent for path in ROOT.glob("plugins/*/pyproject.toml")]
        for source in sorted((*sources, ROOT / "console")):
            results[f"{source.name} is complete"] = is_complete(source, folder)
    for what, holds in results.items():
        sys.stdout.write(f"{'ok' if holds else 'FAILED'}: {what}\n")
    return int(not all(results.values()))


if __name__ == "__main__":
    sys.exit(main())
