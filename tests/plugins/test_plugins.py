"""Building plugins: what cannot be a plugin is refused by name, before anything is served."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pluggy
import pytest
from pydantic import BaseModel

from pexpolicy import Continue, Plugin, PluginSettings, hookimpl
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.hooks import HOOKS
from pexpolicy.plugins.discovery import PluginSource
from tests.support.fake_plugins import available, settings

Make = Callable[[], Any]


class Fine:
    def __init__(self, settings: object) -> None:
        self.settings = settings

    @hookimpl
    async def service_configuration(self, request: object) -> None:
        """Abstain."""


class Misspelt(Fine):
    @hookimpl
    async def service_configuraton(self, request: object) -> None:
        """Is never asked."""


class WrongArgument(Fine):
    @hookimpl
    async def media_location(self, call: object) -> None:
        """Asks for something that there is not."""


class WithoutSelf(Fine):
    @hookimpl
    async def media_location(request: object) -> None:  # noqa: N805
        """Would be given the plugin for a request."""


class WithoutAnything(Fine):
    @hookimpl
    def config_warnings() -> list[Any]:  # type: ignore[misc]
        return []


class Static(Fine):
    @staticmethod
    @hookimpl
    async def media_location(request: object) -> None:
        """Needs no self."""


class SettingsOnly:
    class Settings(PluginSettings):
        text: str = ""

    @hookimpl
    async def media_location(self) -> None:
        """Has settings and nowhere to take them."""


class NoArguments(SettingsOnly):
    def __init__(self) -> None:
        """Take none."""


class Wrapper(Fine):
    @hookimpl(wrapper=True)
    def media_location(self, request: object) -> Any:
        return (yield)


class OldWrapper(Fine):
    @hookimpl(hookwrapper=True)
    def media_location(self, request: object) -> Any:
        yield


class Twice(Fine):
    @hookimpl(specname="service_configuration")
    async def again(self, request: object) -> None:
        """Is a second answer to the same question."""


class NoHooks:
    def __init__(self, settings: object) -> None:
        self.settings = settings


class NoMark(Fine):
    async def participant_properties(self, request: object) -> None:
        """Carries no mark."""


class TryFirst(Fine):
    @hookimpl(tryfirst=True)
    async def media_location(self, request: object) -> None:
        """Ask to be first in a way that has no effect."""


class PlainLifespan(Fine):
    @hookimpl
    async def lifespan(self) -> None:
        """Open nothing, and yield never."""


class GeneratorLifespan(Fine):
    @hookimpl
    async def lifespan(self) -> AsyncIterator[None]:
        yield


class SyncLifespan(Fine):
    @hookimpl
    @contextmanager
    def lifespan(self) -> Iterator[None]:
        yield


class YieldsInThread(Fine):
    @hookimpl
    def participant_properties(self, request: object) -> Iterator[None]:
        yield None


class Yields(Fine):
    @hookimpl
    async def participant_properties(self, request: object) -> AsyncIterator[None]:
        yield None


class AsyncWarnings(Fine):
    @hookimpl
    async def config_warnings(self) -> list[Any]:
        return []


class DataclassSettings(Fine):
    @dataclass
    class Settings:
        text: str = ""


class DictSettings(Fine):
    Settings: ClassVar = {"text": ""}


class ModelSettings(Fine):
    class Settings(BaseModel):
        text: str = ""


class TextWarnings(Fine):
    @hookimpl
    def config_warnings(self) -> Any:
        yield "open"


class NoWarnings(Fine):
    @hookimpl
    def config_warnings(self) -> Any:
        return None


class TextFiles(Fine):
    @hookimpl
    def tracked_files(self) -> Any:
        return "rooms.csv"


class BareDecisions(Fine):
    @hookimpl
    def static_decisions(self) -> Any:
        yield Continue()


class BadDecisions(Fine):
    @hookimpl
    def static_decisions(self) -> Any:
        yield 1 / 0


class Exits(Fine):
    def __init__(self, settings: object) -> None:
        raise SystemExit(1)


class BadCheck(Fine):
    @hookimpl
    def config_warnings(self) -> Any:
        raise KeyError("advice")


def problems(found: Mapping[str, PluginSource]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        build_policy(settings({name: {} for name in found}), available=found)
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Misspelt, "service_configuraton"),
        (WrongArgument, "write media_location(self, request)"),
        (WithoutSelf, "write media_location(self, request)"),
        (WithoutAnything, "write config_warnings(self)"),
        (SettingsOnly, "SettingsOnly does not take its settings"),
        (NoArguments, "NoArguments does not take its settings"),
        (Wrapper, "media_location has wrapper=True"),
        (OldWrapper, "media_location has hookwrapper=True"),
        (Twice, "service_configuration is implemented twice"),
        (NoHooks, "implements no hook"),
        (NoMark, "participant_properties is never called"),
        (TryFirst, "media_location has tryfirst=True"),
        (PlainLifespan, "lifespan must be an async def with one yield"),
        (GeneratorLifespan, "lifespan must be an async def with one yield"),
        (SyncLifespan, "lifespan must be an async def with one yield"),
        (Yields, "participant_properties must return its answer"),
        (YieldsInThread, "participant_properties must return its answer"),
        (AsyncWarnings, "config_warnings must be a plain def"),
        (DataclassSettings, "the Settings of DataclassSettings do not inherit PluginSettings"),
        (DictSettings, "the Settings of DictSettings do not inherit PluginSettings"),
        (ModelSettings, "the Settings of ModelSettings do not inherit PluginSettings"),
        (TextWarnings, "config_warnings must return an iterable of ConfigWarning(key, text)"),
        (NoWarnings, "config_warnings must return an iterable of ConfigWarning(key, text)"),
        (TextFiles, "tracked_files must return an iterable of paths, and not 'rooms.csv'"),
        (BareDecisions, "static_decisions must return an iterable of pairs"),
        (BadDecisions, "its static_decisions failed: ZeroDivisionError"),
        (Exits, "cannot be built: SystemExit"),
        (BadCheck, "its config_warnings failed: KeyError"),
        (Fine(None), "is not a class"),
        (len, "is not a class"),
        (None, "is not a class"),
    ],
)
def test_what_cannot_be_a_plugin_is_refused_by_name(found: Any, said: str) -> None:
    (problem,) = problems(available({"toy": found}))
    assert problem.startswith("plugins.toy: ")
    assert "toy (toy-toy 1.0)" in problem
    assert said in problem


def test_a_static_method_needs_no_self() -> None:
    policy = build_policy(settings({"a": {}}), available=available({"a": Static}))
    assert [link.plugin for link in policy.chains["media_location"].links] == ["a"]


def test_one_that_cannot_be_imported_is_refused_by_name() -> None:
    def load() -> object:
        raise ImportError("no module named 'ldap'")

    found = PluginSource("toy", "toy-toy", "1.0", "toy:Toy", load)
    (problem,) = problems({"toy": found})
    assert "toy (toy-toy 1.0) cannot be imported: ImportError: no module named 'ldap'" in problem


def test_a_plugin_that_is_not_configured_is_never_imported() -> None:
    def load() -> object:
        raise AssertionError("imported")

    idle = PluginSource("idle", "idle", "1.0", "idle:Idle", load)
    found = {"idle": idle, **available({"fine": Fine})}
    policy = build_policy(settings({"fine": {}}), available=found)
    assert [plugin.name for plugin in policy.plugins] == ["fine"]


def test_one_that_is_not_installed_is_reported_with_those_that_are() -> None:
    with pytest.raises(ConfigError) as error:
        build_policy(settings({"zzz": {}}), available=available({"fine": Fine}))
    (problem,) = error.value.problems
    assert "installed: fine" in str(problem)


def test_every_refusal_is_reported_at_once() -> None:
    found = available({"a": Misspelt, "b": NoHooks, "c": Fine, "d": Exits})
    assert [text.partition(":")[0] for text in problems(found)] == [
        "plugins.a",
        "plugins.b",
        "plugins.d",
    ]


def test_two_plugins_of_one_class_are_two_plugins() -> None:
    policy = build_policy(settings({"a": {}, "b": {}}), available=available({"a": Fine, "b": Fine}))
    assert [link.plugin for link in policy.chains["service_configuration"].links] == ["a", "b"]


def test_relative_paths_in_settings_are_relative_to_the_configuration(tmp_path: Path) -> None:
    from pydantic import ValidationInfo, field_validator  # noqa: PLC0415

    class Table(PluginSettings):
        file: Path

        @field_validator("file")
        @classmethod
        def _below(cls, file: Path, info: ValidationInfo) -> Path:
            assert info.context is not None
            root: Path = info.context["root"]
            return root / file

    class Reads(Fine):
        Settings = Table

    document = {"plugins": {"reads": {"settings": {"file": "rooms.csv"}}}}
    read = from_document(document, tmp_path / "config.toml", "")
    policy = build_policy(read, available=available({"reads": Reads}))
    instance: Any = policy.plugins[0].instance
    assert instance.settings.file == tmp_path / "rooms.csv"


def test_every_specification_of_a_decision_takes_the_request_and_the_first_answer() -> None:
    pm = pluggy.PluginManager("pexpolicy")
    pm.add_hookspecs(Plugin)
    assert HOOKS.keys() >= {
        "service_configuration",
        "participant_properties",
        "media_location",
        "participant_avatar",
        "directory_information",
        "registration_alias",
        "lifespan",
        "config_warnings",
    }
    for name in HOOKS:
        spec = getattr(pm.hook, name).spec
        assert spec is not None
        assert spec.function.__doc__
        if name.startswith("adjust_"):
            assert spec.argnames == ("request", "decision")
            assert not spec.opts["firstresult"]
        elif name in ENDPOINTS:
            assert spec.argnames == ("request",)
            assert spec.opts["firstresult"]


class Opens(Fine):
    """Writes down when it is opened and closed."""

    events: list[str] = []

    @hookimpl
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.events.append("opened")
        yield
        self.events.append("closed")


def test_building_opens_nothing() -> None:
    build_policy(settings({"opens": {}}), available=available({"opens": Opens}))
    assert Opens.events == []
