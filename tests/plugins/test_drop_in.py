"""Drop-in plugins: imported classes, shared helpers, and what survives a reload."""

import os
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.config.problems import PluginBuildError
from pexpolicy.plugins.discovery import discover

HEAD = "from pexpolicy import PluginSettings, hookimpl\n"
PLUGIN = """
class Plugin:
    @hookimpl
    async def media_location(self, request):
        return None
"""


def load(folder: Path, name: str = "one") -> Any:
    return discover([folder])[0][name].load()


def write(folder: Path, source: str, name: str = "one") -> None:
    (folder / f"{name}.py").write_text(HEAD + source)


def test_imported_classes_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, "from pexpolicy_rooms import Rooms\n" + PLUGIN)
    assert load(tmp_path).__name__ == "Plugin"


def test_a_class_that_inherits_its_hooks_from_an_imported_one_counts(tmp_path: Path) -> None:
    write(tmp_path, "from pexpolicy_rooms import Rooms\nclass Mine(Rooms):\n    pass\n")
    assert load(tmp_path).__name__ == "Mine"


def test_only_imported_classes_are_no_plugin(tmp_path: Path) -> None:
    write(tmp_path, "from pexpolicy_rooms import Rooms\n")
    with pytest.raises(
        PluginBuildError, match=r"defines 0 \(none\); imported classes do not count"
    ):
        load(tmp_path)


@pytest.mark.parametrize("name", ["one.py", "_helper.py"])
def test_a_pipe_is_refused_at_once(tmp_path: Path, name: str) -> None:
    write(tmp_path, PLUGIN)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(OSError, match="it is not a regular file"):
        load(tmp_path)


def test_two_drop_ins_share_a_helper(tmp_path: Path) -> None:
    (tmp_path / "_shared.py").write_text("CALLS = []\n")
    for name in ("one", "two"):
        write(tmp_path, "from ._shared import CALLS\n" + PLUGIN + "    calls = CALLS\n", name)
    assert set(discover([tmp_path])[0]) >= {"one", "two"}
    assert "_shared" not in discover([tmp_path])[0]
    assert load(tmp_path, "one").calls is load(tmp_path, "two").calls


def test_a_changed_helper_reaches_every_drop_in(tmp_path: Path) -> None:
    helper = tmp_path / "_shared.py"
    for number in (1, 2):
        helper.write_text(f"VALUE = [{number}]\n")
        for name in ("one", "two"):
            write(tmp_path, "from ._shared import VALUE\n" + PLUGIN + "    value = VALUE\n", name)
        values = [load(tmp_path, name).value for name in ("one", "two")]
        assert values[0] == [number]
        assert values[0] is values[1]
    assert helper in discover([tmp_path])[0]["one"].files()


def test_a_helper_that_breaks_leaves_the_one_before_it(tmp_path: Path) -> None:
    helper = tmp_path / "_shared.py"
    helper.write_text("VALUE = 1\n")
    write(tmp_path, "from ._shared import VALUE\n" + PLUGIN + "    value = VALUE\n")
    first = load(tmp_path)
    helper.write_text("VALUE = 1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load(tmp_path)
    helper.write_text("VALUE = 1\n")
    assert load(tmp_path) is first


def test_source_that_has_not_changed_is_not_executed_again(tmp_path: Path) -> None:
    write(tmp_path, PLUGIN)
    assert load(tmp_path) is load(tmp_path)
