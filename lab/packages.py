"""The packages as a stranger gets them: built twice, installed without a network, used, listed.

``make dist wheelhouse sbom`` writes what this program reads; wheels of other versions of Python are
downloaded. It prints a line for each result and returns 1 if one fails.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import click
from packaging.markers import Marker

from pexpolicy import __version__
from tests.support import wire
from tests.support.paths import ROOT

DIST = ROOT / "dist"
INTERPRETERS = ("/usr/bin/python3.11", "/usr/bin/python3.13", "/usr/bin/python3.14")
TIMEOUT_S = 900.0
PASSWORD = {"PEXPOLICY_PASSWORD": "of a server that is not reached"}
"""What the configuration of the image reads from the environment."""
SMALL = """
[audit]
path = "audit.jsonl"

[plugins.rooms.settings.rooms.2301]
name = "Example room"
service_tag = "example-room"
"""
_LOCKED = re.compile(r"^([a-z0-9-]+)==([^ ;\\]+)(?: ; ([^\\]+?))? ?\\?$", re.MULTILINE)


class Results:
    """Prints each result, and counts failures."""

    def __init__(self) -> None:
        self.failures = 0

    def expect(self, what: str, *, holds: bool) -> None:
        click.echo(f"{'ok' if holds else 'FAILED'}: {what}")
        self.failures += not holds


def run(*command: str | Path, folder: Path = ROOT, umask: int = 0o022) -> str:
    """Run a command and return its output; raise ``CalledProcessError`` if it fails."""
    given = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        umask=umask,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=given | PASSWORD,
        timeout=TIMEOUT_S,
    ).stdout


def built_again(results: Results, folder: Path) -> None:
    """Build a copy of the committed files in another folder, with another umask, and compare."""
    copy = folder / "another place"
    copy.mkdir()
    names = run("git", "ls-files", "-z").split("\0")
    for name in filter(None, names):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    sources = [copy, *(path.parent for path in copy.glob("plugins/*/pyproject.toml"))]
    for source in (*sources, copy / "console"):
        command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", copy / "dist")
        run(*command, source, umask=0o077)
    sums = {p.name: sha256(p.read_bytes()).hexdigest() for p in (copy / "dist").iterdir()}
    lines = (DIST / "SHA256SUMS").read_text().splitlines()
    first = {name: digest for digest, name in map(str.split, lines)}
    results.expect(f"{len(first)} files are built to the same bytes", holds=sums == first)


def installed(results: Results, python: str, folder: Path) -> None:
    """Install everything from a wheelhouse only, make a first configuration, and call it."""
    name = Path(python).name
    if shutil.which(python) is None:
        click.echo(f"skipped: {name} is not on this machine")
        return
    house, environment = folder / f"wheels-{name}", folder / name
    run(python, "-m", "venv", environment)
    pip = (environment / "bin/python", "-m", "pip", "--disable-pip-version-check")
    lock = ROOT / "deploy/requirements.lock"
    download = ("download", "-q", "--require-hashes", "--only-binary", ":all:", "-d", house)
    run(*pip, *download, "-r", lock)
    offline = ("install", "-q", "--no-index", "--find-links", house)
    for wheel in DIST.glob("*.whl"):
        shutil.copy2(wheel, house)
    run(*pip, *offline, "pexpolicy[all]")
    broken = run(*pip, "check")
    text = f"{name}: pexpolicy[all] is installed without an index"
    results.expect(text, holds="No broken" in broken)
    command = environment / "bin/pexpolicy"
    version = run(command, "--version").split()[-1]
    results.expect(f"{name}: the command prints {version}", holds=version == __version__)
    config = folder / f"config-{name}"
    run(command, "init", "--yes", config, "--no-password")
    run(command, "check", "--strict", config / "config.toml")
    results.expect(f"{name}: a call is answered and audited", holds=_answers(command, config))
    verified = run(command, "audit", "verify", "--json", "--file", config / "audit.jsonl")
    results.expect(f"{name}: the audit is verified", holds='"faults":0' in verified)


def _answers(command: Path, config: Path) -> bool:
    arguments = (command, "serve", "-c", config / "config.toml", "--port", "0", "--admin-port", "0")
    with subprocess.Popen(list(map(str, arguments)), stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            for line in server.stderr:
                if found := re.search(r"answers on http://127\.0\.0\.1:(\d+)", line):
                    reply = wire.ask_blocking(int(found[1]), f"{wire.SERVICE}?local_alias=2301")
                    return bool(reply.result["name"] == "Example room")
            return False
        finally:
            server.terminate()


def listed(results: Results) -> None:
    """Compare the SBOM with what the lock of the image has for this interpreter."""
    document = json.loads((DIST / "pexpolicy.cdx.json").read_text())
    found = {
        (part["name"].lower().replace("_", "-"), part["version"]) for part in document["components"]
    }
    lock = (ROOT / "deploy/requirements.lock").read_text()
    wanted = {
        (name, version)
        for name, version, marker in _LOCKED.findall(lock)
        if not marker or Marker(marker).evaluate()
    }
    names = [wheel.name.split("-")[0].replace("_", "-") for wheel in DIST.glob("*.whl")]
    own = {(name, __version__) for name in names}
    missing, added = (wanted | own) - found, found - wanted - own
    text = f"the SBOM has {len(found)} packages; missing {missing}, added {added}"
    results.expect(text, holds=not missing and not added)


def upgraded(results: Results, folder: Path) -> None:
    """Install the last tagged version, then this one over it, between two calls."""
    tags = run("git", "tag", "--sort=-creatordate", "--list", "v*").split()
    if not tags:
        click.echo("skipped: there is no tag, so there is no version to upgrade from")
        return
    old, environment, site = folder / "old", folder / "upgrade", folder / "site"
    run("git", "clone", "-q", "--branch", tags[0], ROOT, old)
    run(sys.executable, "-m", "venv", environment)
    pip = (environment / "bin/python", "-m", "pip", "install", "-q")
    run(*pip, "--require-hashes", "-r", old / "deploy/requirements.lock")
    run(*pip, "--no-deps", old, *old.glob("plugins/*/"))
    command = environment / "bin/pexpolicy"
    site.mkdir()
    (site / "config.toml").write_text(SMALL)
    results.expect(f"{tags[0]} answers a call", holds=_answers(command, site))
    run(*pip, "--require-hashes", "-r", ROOT / "deploy/requirements.lock")
    run(*pip, "--no-deps", "--force-reinstall", *DIST.glob("*.whl"))
    run(command, "check", old / "deploy/config.toml")
    results.expect(f"{__version__} takes its configuration", holds=True)
    results.expect(f"{__version__} answers a call", holds=_answers(command, site))
    verified = json.loads(run(command, "audit", "verify", "--json", "--file", site / "audit.jsonl"))
    holds = verified["faults"] == 0 and verified["lines"] > 1
    results.expect(f"the audit of both has {verified['lines']} lines and no fault", holds=holds)


def main() -> int:
    """Print each result; return 1 if one does not hold."""
    results = Results()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        built_again(results, folder)
        for python in INTERPRETERS:
            installed(results, python, folder)
        listed(results)
        upgraded(results, folder)
    return int(results.failures > 0)


if __name__ == "__main__":
    sys.exit(main())
