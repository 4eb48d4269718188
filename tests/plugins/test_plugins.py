"""Building plugins: what cannot be a plugin is refused by name, before anything is served."""

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import Any

import pluggy
import pydantic
import pytest
from aiohttp import web

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


def made(body: str, base: str = "(Fine)") -> type:
    """Return a class with the names that plugins use."""
    scope: dict[str, Any] = {"Fine": Fine, "hookimpl": hookimpl, "Continue": Continue, "web": web}
    for module in (asyncio, contextlib, dataclasses, functools, pydantic):
        scope |= {name: getattr(module, name) for name in module.__all__}
    scope |= {"asyncio": asyncio}
    exec(f"class Toy{base}:\n" + indent(body, "    "), scope)  # noqa: S102 - of this page
    toy: type = scope["Toy"]
    return toy


def problems(found: Mapping[str, PluginSource]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        build_policy(settings({name: {} for name in found}), available=found)
    return [str(problem) for problem in error.value.problems]


BAD = {
    "async def service_configuraton(self, request): ...": "mean 'service_configuration'?",
    "async def media_location(self, call): ...": "write media_location(self, request)",
    "async def media_location(request): ...": "write media_location(self, request)",
    "async def media_location(self, *, request): ...": "write media_location(self, request)",
    "def config_warnings(): return []": "write config_warnings(self)",
    "async def lifespan(self): ...": "lifespan must be an async def with one yield",
    "async def lifespan(self): yield": "lifespan must be an async def with one yield",
    "@contextmanager\ndef lifespan(self): yield": "lifespan must be an async def with one yield",
    "@asynccontextmanager\nasync def lifespan(self): ...": "lifespan must be an async def with one",
    "async def media_location(self, request): yield": "media_location must return its answer",
    "def media_location(self, request): yield": "media_location must return its answer",
    "async def config_warnings(self): return []": "config_warnings must be a plain def",
    "def config_warnings(self): yield 'open'": "must return an iterable of ConfigWarning",
    "def config_warnings(self): ...": "must return an iterable of ConfigWarning(key, text)",
    "def config_warnings(self): raise KeyError('x')": "its config_warnings failed: KeyError",
    "def tracked_files(self): return 'a.csv'": "must return an iterable of paths, and not 'a.csv'",
    "def static_decisions(self): yield Continue()": "must return an iterable of pairs",
    "def static_decisions(self): yield 1 / 0": "its static_decisions failed: ZeroDivisionError",
    "def routes(self): return web.Application()": "must return an iterable of aiohttp.web.RouteDef",
    "@staticmethod\nasync def media_location(): ...": "media_location is never called",
    "@lru_cache\ndef media_location(self, request): ...": "media_location is never called",
}
"""Hooks below ``@hookimpl``, and what is said of each."""
BAD_CLASSES = {
    "async def media_location(self, request): ...": "media_location is never called",
    "media_location = property(lambda self: None)": "media_location is never called",
    "def __init__(self, settings): raise SystemExit(1)": "cannot be built: SystemExit",
    "def __init__(self): ...": "cannot be built: TypeError: Toy",
    "def __init__(self, settings): asyncio.get_running_loop()": "no running event loop",
    "def __aenter__(self): ...": "__aenter__ is never called: write lifespan",
    "def __enter__(self): ...": "__enter__ is never called: write lifespan",
    "Settings = {'text': ''}": "the Settings of Toy do not inherit PluginSettings",
    "class Settings(BaseModel):\n    text: str": "the Settings of Toy do not inherit",
    "@dataclass\nclass Settings:\n    text: str": "the Settings of Toy do not inherit",
    "@hookimpl(specname='service_configuration')\nasync def x(self): ...": "is implemented twice",
    **{
        f"@hookimpl({option}=True)\ndef media_location(self, request): yield": f"{option}=True"
        for option in ("tryfirst", "trylast", "wrapper", "hookwrapper")
    },
}
CASES: list[tuple[Make, str]] = [
    *((partial(made, f"@hookimpl\n{body}"), said) for body, said in BAD.items()),
    *((partial(made, body), said) for body, said in BAD_CLASSES.items()),
    (partial(made, "text = ''", ""), "implements no hook"),
    *((partial(lambda found: found, found), "is not a class") for found in (Fine(None), len, None)),
]


@pytest.mark.parametrize(("make", "said"), CASES)
def test_what_cannot_be_a_plugin_is_refused_by_name(make: Make, said: str) -> None:
    (problem,) = problems(available({"toy": make()}))
    assert problem.startswith("plugins.toy: ")
    assert "toy (toy-toy 1.0)" in problem
    assert said in problem


def test_a_static_method_needs_no_self() -> None:
    static = made("@staticmethod\n@hookimpl\nasync def media_location(request): ...")
    policy = build_policy(settings({"a": {}}), available=available({"a": static}))
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
    assert "there are fine" in str(problem)


def test_every_refusal_is_reported_at_once() -> None:
    bad = made("async def media_location(self, request): ...")
    found = available({"a": bad, "b": made("text = ''", ""), "c": Fine, "d": Fine(None)})
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
    read = from_document(document, tmp_path / "config.toml")
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
