"""Each plugin of this repository next to the core and what it declares, without the others."""

import re
import subprocess
import sys
import tomllib

import pytest

from tests.support.paths import ROOT

PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
PROGRAM = """
import importlib, pkgutil, sys
package, *others = sys.argv[1:]
sys.modules.update(dict.fromkeys(others))  # importing one of these fails
for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
    if ".migrations." not in module.name:
        importlib.import_module(module.name)
"""


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_needs_what_it_declares_only(folder: object) -> None:
    packages = {path: next(path.glob("src/*/__init__.py")).parent.name for path in PLUGINS}
    project = tomllib.loads((ROOT / str(folder) / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", need)[0] for need in project["dependencies"]}
    own = next(name for path, name in packages.items() if path == folder)
    others = [
        name for name in packages.values() if name != own and name.replace("_", "-") not in declared
    ]
    assert "pexpolicy" in declared
    subprocess.run([sys.executable, "-c", PROGRAM, own, *others], check=True)
