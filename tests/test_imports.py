"""Imports: what the package changes in a process, and what a server loads that it does not use."""

import subprocess
import sys
from pathlib import Path

import pytest

import pexpolicy
from pexpolicy import api
from tests.support import live_server, wire
from tests.support.waiting import HANG_S

STATE = """
import gc, sys
import {module}
missing = [name for name, module in sys.modules.items() if module is None]
print(gc.isenabled(), gc.get_freeze_count(), gc.get_threshold(), gc.callbacks, missing)
"""
HEAVY = ("PIL", "re2", "rich")
CONFIG = """
plugin_dirs = ["plugins"]
[plugins.modules]
priority = 200
[plugins.domains.settings]
allowed = ["@example.com"]
[plugins.rooms.settings.rooms.sales]
name = "Sales"
[plugins.locations.settings]
subnets = [{ subnet = "10.0.0.0/8", location = "London" }]
[[plugins.rules.settings.rules]]
name = "block"
endpoint = "service_configuration"
when = { local_alias = %s }
then = { action = "reject" }
[plugins.upstream.settings.targets.other]
url = "http://127.0.0.1:9"
[[plugins.upstream.settings.routes]]
targets = ["other"]
when = { local_alias = "other" }
"""
MODULES = """
import sys
from pexpolicy import Continue, hookimpl

class Modules:
    @hookimpl
    async def service_configuration(self, request):
        return Continue(reason=" ".join(name for name in {heavy} if name in sys.modules) or "none")
"""


def printed(code: str) -> str:
    command = (sys.executable, "-c", code)
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=HANG_S
    ).stdout


@pytest.mark.parametrize("module", ["pexpolicy", "pexpolicy.api", "pexpolicy.testing"])
def test_an_import_leaves_the_collector_and_the_module_table_alone(module: str) -> None:
    assert printed(STATE.format(module=module)) == printed(STATE.format(module="gc"))


def test_every_name_of_the_api_can_be_imported_from_the_package() -> None:
    everything: dict[str, object] = {}
    exec("from pexpolicy import *", everything)  # noqa: S102 - what a console does
    assert set(api.__all__) <= everything.keys()
    assert set(api.__all__) <= set(dir(pexpolicy))
    for name in api.__all__:
        assert getattr(pexpolicy, name) is getattr(api, name)


def test_an_unknown_name_is_no_attribute_of_the_package() -> None:
    with pytest.raises(AttributeError, match="module 'pexpolicy' has no attribute 'Conferense'"):
        getattr(pexpolicy, "Conferense")  # noqa: B009 - a type checker refuses the attribute


@pytest.mark.parametrize(
    ("condition", "loaded"), [('"blocked"', "none"), ('{ regex = "blocked.*" }', "re2")]
)
def test_a_server_loads_what_its_configuration_needs(
    tmp_path: Path, condition: str, loaded: str
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "modules.py").write_text(MODULES.format(heavy=HEAVY))
    (tmp_path / "given.toml").write_text(CONFIG % condition)
    config = live_server.with_audit(tmp_path / "given.toml", tmp_path)
    with live_server.running(config, python=sys.executable) as server:
        assert server.ask(f"{wire.SERVICE}?local_alias=a").status == 200
        assert server.last_line()["reason"] == loaded
