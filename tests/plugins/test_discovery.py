"""Plugins that lie in a directory come in through the same door as those that packages bring."""

from pathlib import Path
from typing import Any

import pytest

from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.plugins.discovery import discover
from pexpolicy.policy import Policy
from tests.support import wire
from tests.support.fake_plugins import Serve

PLUGIN = """
from pexpolicy import Conference, PluginSettings, hookimpl

class Greeter:
    class Settings(PluginSettings):
        name: str

    def __init__(self, settings):
        self._answer = Conference(name=settings.name, service_tag="")

    @hookimpl
    async def service_configuration(self, request):
        return self._answer
"""


def settings(folder: Path, **plugins: Any) -> Settings:
    document = {"plugin_dirs": ["dropins"], "plugins": plugins}
    return from_document(document, folder / "config.toml")


def problems(folder: Path, **plugins: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build_policy(settings(folder, **plugins))
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dropins").mkdir()
    return tmp_path


def policy(folder: Path) -> Policy:
    return build_policy(settings(folder, greeter={"settings": {"name": "Hello"}}))


@pytest.mark.parametrize("name", ["greeter", "our-greeter"])
async def test_a_module_in_a_directory_decides(serving: Serve, folder: Path, name: str) -> None:
    (folder / "dropins" / f"{name}.py").write_text(PLUGIN)
    built = build_policy(settings(folder, **{name: {"settings": {"name": "Hello"}}}))
    async with serving(built) as server:
        assert (await server.ask(wire.SERVICE)).result["name"] == "Hello"
        assert server.steps() == [(name, "decided")]


async def test_a_package_in_a_directory_may_import_its_own_modules(
    serving: Serve, folder: Path
) -> None:
    package = folder / "dropins" / "greeter"
    package.mkdir()
    (package / "inner.py").write_text(PLUGIN)
    (package / "__init__.py").write_text("from .inner import Greeter\n")
    async with serving(policy(folder)) as server:
        assert (await server.ask(wire.SERVICE)).result["name"] == "Hello"


@pytest.mark.parametrize("name", ["greeter.disabled", "greeter.2026-11-28"])
def test_a_copy_of_a_package_is_no_plugin(folder: Path, name: str) -> None:
    package = folder / "dropins" / name
    package.mkdir()
    (package / "__init__.py").write_text(PLUGIN)
    (said,) = problems(folder, greeter={"settings": {"name": "Hello"}})
    assert "no plugin of this name is installed" in said


def test_a_directory_is_not_looked_at_unless_it_is_configured(folder: Path) -> None:
    (folder / "dropins" / "greeter.py").write_text(PLUGIN)
    document = {"plugins": {"greeter": {"settings": {"name": "Hello"}}}}
    with pytest.raises(ConfigError, match="no plugin of this name is installed"):
        build_policy(from_document(document, folder / "config.toml"))


def test_settings_of_a_drop_in_are_checked_like_any_other(folder: Path) -> None:
    (folder / "dropins" / "greeter.py").write_text(PLUGIN)
    (text,) = problems(folder, greeter={"settings": {"nmae": "Hello", "name": "x"}})
    assert text == "plugins.greeter.settings.nmae: unknown key; did you mean 'name'?"


def test_a_file_that_is_not_configured_is_never_run(folder: Path) -> None:
    (folder / "dropins" / "greeter.py").write_text(PLUGIN)
    (folder / "dropins" / "other.py").write_text("raise SystemExit('was run')\n")
    policy(folder)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("raise ValueError('at import')", "cannot be imported: ValueError: at import"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("import pexpolicy_does_not_exist", "No module named 'pexpolicy_does_not_exist'"),
        ("def (:", "cannot be imported: SyntaxError"),
        ("x = 1", "must define one class with hooks as its methods, and defines 0 (none)"),
        (
            PLUGIN + "class Second(Greeter):\n    other = Greeter.service_configuration\n",
            "defines 2",
        ),
    ],
)
def test_what_cannot_be_imported_is_named_with_the_reason(
    folder: Path, source: str, complaint: str
) -> None:
    (folder / "dropins" / "greeter.py").write_text(source)
    (text,) = problems(folder, greeter={"settings": {"name": "x"}})
    assert text.startswith("plugins.greeter: greeter (dropins drop-in)")
    assert complaint in text


def test_a_name_that_a_package_brings_too_is_refused(folder: Path) -> None:
    (folder / "dropins" / "rooms.py").write_text(PLUGIN)
    (text,) = problems(folder)
    assert text.startswith("plugin_dirs[0]: ")
    assert "bring a plugin of the same name rooms" in text


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    (text,) = problems(tmp_path)
    missing = tmp_path / "dropins"
    assert text == f"plugin_dirs[0]: {missing} cannot be read: No such file or directory"


@pytest.mark.parametrize("wanted", ["99", "'1'"])
def test_a_plugin_that_asks_for_other_hooks_is_refused(folder: Path, wanted: str) -> None:
    other = PLUGIN.replace("class Greeter:\n", f"class Greeter:\n    pexpolicy_api = {wanted}\n")
    (folder / "dropins" / "greeter.py").write_text(other)
    (text,) = problems(folder, greeter={"settings": {"name": "x"}})
    assert f"asks for hook API {wanted}, and this pexpolicy has 1: upgrade pexpolicy" in text


async def test_a_class_without_settings_needs_no_constructor(serving: Serve, folder: Path) -> None:
    bare = (
        "from pexpolicy import Reject, hookimpl\n"
        "class Bare:\n"
        "    @hookimpl\n"
        "    async def service_configuration(self):\n"
        "        return Reject(reason='bare')\n"
    )
    (folder / "dropins" / "bare.py").write_text(bare)
    async with serving(build_policy(settings(folder, bare={}))) as server:
        assert (await server.ask(wire.SERVICE)).json["reason"] == "bare"


@pytest.mark.parametrize("key", ["token", "code"])
def test_a_secret_of_the_wrong_type_is_not_shown(folder: Path, key: str) -> None:
    declared = "    class Settings(PluginSettings):\n        token: str = ''\n"
    declared += "        code: SecretStr = SecretStr('')\n"
    source = PLUGIN.replace("    class Settings(PluginSettings):\n        name: str\n", declared)
    (folder / "dropins" / "greeter.py").write_text("from pydantic import SecretStr\n" + source)
    (text,) = problems(folder, greeter={"settings": {key: 123456}})
    assert text.startswith(f"plugins.greeter.settings.{key}: should be text")
    assert "123456" not in text


def test_a_drop_in_that_breaks_leaves_the_one_before_it(tmp_path: Path) -> None:
    source = "from pexpolicy import hookimpl\n\nclass Doors:\n    size = {}\n    @hookimpl\n"
    hook = "    async def media_location(self, request): return None\n"
    path = tmp_path / "swapped.py"
    sizes = []
    for size in (1, 2):
        path.write_text(source.format(size) + hook)
        sizes.append(discover([tmp_path])[0]["swapped"].load().size)
    assert sizes == [1, 2]
    before = discover([tmp_path])[0]["swapped"].load()
    path.write_text("raise ValueError('it is half done')")
    with pytest.raises(ValueError, match="half done"):
        discover([tmp_path])[0]["swapped"].load()
    path.write_text(source.format(2) + hook)
    assert discover([tmp_path])[0]["swapped"].load() is before
