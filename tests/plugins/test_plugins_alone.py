"""Each plugin of this repository next to the core and what it declares, without the others."""

import json
import re
import subprocess
import sys
import tomllib

from tests.support.paths import ROOT

PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
PROGRAM = """
import importlib, json, os, pkgutil, sys
import pexpolicy.testing
for package, others in json.loads(sys.argv[1]).items():
    if os.fork() == 0:
        sys.modules.update(dict.fromkeys(others))  # importing one of these fails
        folders = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(folders, package + "."):
            if ".migrations." not in module.name:
                importlib.import_module(module.name)
        os._exit(0)
    if os.wait()[1]:
        sys.exit(package)
"""


def test_a_plugin_needs_what_it_declares_only() -> None:
    packages = {path: next(path.glob("src/*/__init__.py")).parent.name for path in PLUGINS}
    undeclared = {}
    for path, own in packages.items():
        project = tomllib.loads((path / "pyproject.toml").read_text())["project"]
        declared = {
            re.split(r"[^\w-]", need)[0].replace("-", "_") for need in project["dependencies"]
        }
        assert "pexpolicy" in declared
        undeclared[own] = sorted({*packages.values()} - declared - {own})
    subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(undeclared)], check=True)
