"""Plugins in worker processes, asked by the kit for tests."""

import importlib
import os
import sys
import types
from pathlib import Path

import pytest

from pexpolicy.testing import ConfigError, decide_sync, make_policy, make_request

TABLE = {"isolation": "process", "processes": 1}


def test_a_class_is_asked_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apart.py").write_text(
        "import os\n"
        "from pexpolicy import Conference, Plugin\n"
        "class Apart(Plugin):\n"
        "    async def service_configuration(self, request):\n"
        "        return Conference(name=str(os.getpid()), service_tag='')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin_class = importlib.import_module("apart").Apart
    request = make_request("service_configuration")
    outcome = decide_sync(plugin_class, request, config={"plugins": {"apart": TABLE}})
    assert outcome.decided_by == "apart"
    assert outcome.decision.set_fields()["name"] != str(os.getpid())


def test_a_class_that_a_worker_cannot_import_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("only_here")
    exec("from pexpolicy import Plugin\nclass Here(Plugin): pass", vars(module))  # noqa: S102
    monkeypatch.setitem(sys.modules, "only_here", module)
    with pytest.raises(ConfigError, match="cannot be imported in a worker process: ModuleNotFound"):
        make_policy(module.Here, config={"plugins": {"here": TABLE}})


def test_a_class_of_a_function_is_named() -> None:
    class Local:
        pass

    with pytest.raises(ConfigError, match=r"cannot be sent to a worker process: .*Local"):
        make_policy(Local, config={"plugins": {"local": TABLE}})
