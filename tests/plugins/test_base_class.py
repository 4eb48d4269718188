"""The base class of plugins: what a subclass overrides is a hook, and nothing else is."""

import types
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from typing_extensions import override

from pexpolicy import (
    Conference,
    ConfigWarning,
    MediaLocation,
    MediaLocationRequest,
    Outcome,
    Plugin,
    PluginSettings,
    ServiceConfigurationRequest,
    hookimpl,
)
from pexpolicy.builder import build_policy
from pexpolicy.config.settings import ConfigError
from pexpolicy.testing import decide_sync, make_policy, make_request
from tests.support.fake_plugins import available, settings

S = TypeVar("S", bound=PluginSettings)


class Place(PluginSettings):
    location: str = "Oslo"


class Nearest(Plugin[Place]):
    @override
    async def media_location(self, request: MediaLocationRequest) -> MediaLocation | None:
        return MediaLocation(location=self.settings.location)


class Everything(Plugin):
    """Overrides each hook, async, blocking, with and without its argument."""

    def __init__(self, settings: PluginSettings) -> None:
        super().__init__(settings)
        self.seen: list[str] = []

    @override
    async def service_configuration(
        self, request: ServiceConfigurationRequest
    ) -> Conference | None:
        return Conference(name="a", service_tag="")

    @override
    def media_location(self, request: MediaLocationRequest) -> dict[str, Any]:
        return {"location": "Oslo"}

    @override
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.seen.append("opened")
        yield
        self.seen.append("closed")

    @override
    async def on_decision(self, outcome: Outcome) -> None:
        self.seen.append(outcome.endpoint)

    @override
    def config_warnings(self) -> Iterable[ConfigWarning]:
        yield ConfigWarning((), "is for tests")


def hooks_of(plugin_class: type) -> set[str]:
    policy = build_policy(settings({"a": {}}), available=available({"a": plugin_class}))
    policy.close()
    return set(policy.plugins[0].hooks)


def refusal(plugin_class: type) -> str:
    with pytest.raises(ConfigError) as caught:
        hooks_of(plugin_class)
    return str(caught.value)


def test_what_is_overridden_is_a_hook_and_nothing_else() -> None:
    assert hooks_of(Nearest) == {"media_location"}
    assert hooks_of(Everything) == {
        "service_configuration",
        "media_location",
        "lifespan",
        "on_decision",
        "config_warnings",
    }


def test_the_settings_come_from_the_parameter() -> None:
    assert Nearest.Settings is Place
    outcome = decide_sync((Nearest, {"location": "Bergen"}), make_request("media_location"))
    assert outcome.decision == MediaLocation(location="Bergen")
    with pytest.raises(ConfigError, match="unknown key; did you mean 'location'"):
        make_policy((Nearest, {"locatoin": "Bergen"}))


async def test_hooks_are_called_as_those_with_a_mark() -> None:
    plugin = Everything(PluginSettings())
    policy = make_policy(plugin)
    assert [warning.text for warning in policy.warnings] == ["is for tests"]
    async with policy.serving():
        for endpoint in ("service_configuration", "media_location"):
            answer = await policy.answer(make_request(endpoint), "1")
            assert answer.outcome.steps[-1].outcome == "decided"
            policy.run_background(answer.outcome)
    assert plugin.seen == ["opened", "service_configuration", "media_location", "closed"]


def test_a_subclass_of_a_plugin_inherits_its_hooks_and_settings() -> None:
    class Farther(Nearest):
        @override
        async def service_configuration(self, request: ServiceConfigurationRequest) -> None:
            return None

    assert Farther.Settings is Place
    assert hooks_of(Farther) == {"media_location", "service_configuration"}


def test_a_generic_base_of_several_plugins_takes_the_settings_of_each() -> None:
    class Base(Plugin[S]):
        @override
        async def media_location(self, request: MediaLocationRequest) -> None:
            return None

    class One(Base[Place]):
        pass

    assert One.Settings is Place
    assert hooks_of(One) == {"media_location"}


def test_a_mixin_that_is_named_too_late_is_refused() -> None:
    class Mixin:
        async def media_location(self, request: MediaLocationRequest) -> None:
            return None

    class Late(Plugin[Place], Mixin):  # type: ignore[misc]
        @override
        async def service_configuration(self, request: ServiceConfigurationRequest) -> None:
            return None

    assert "media_location of Mixin is never called: name Mixin before" in refusal(Late)


def test_hooks_of_a_mixin_count() -> None:
    class Mixin:
        async def media_location(self, request: MediaLocationRequest) -> MediaLocation | None:
            return MediaLocation(location="mixed")

    class Mixed(Mixin, Plugin[Place]):
        pass

    assert hooks_of(Mixed) == {"media_location"}


def test_a_mark_on_a_method_of_a_subclass_is_fine() -> None:
    class Marked(Plugin[Place]):
        @hookimpl
        async def media_location(self, request: MediaLocationRequest) -> None:
            return None

        @hookimpl(specname="service_configuration")
        async def room(self, request: ServiceConfigurationRequest) -> None:
            return None

    assert hooks_of(Marked) == {"media_location", "service_configuration"}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("servce_configuration", "service_configuration"),
        ("media_locations", "media_location"),
        ("on_decisionss", "on_decisions"),
        ("config_warning", "config_warnings"),
        ("adjust_service", "adjust_service_configuration"),
        ("adjust_service_config", "adjust_service_configuration"),
        ("adjust_location", "adjust_media_location"),
        ("location", "media_location"),
        ("participants", "participant_properties"),
        ("handle_registration_alias", "registration_alias"),
        ("startup", "lifespan"),
        ("on_server_stop", "lifespan"),
        ("health_check", "status"),
        ("on_hangup", ""),
    ],
)
def test_a_misspelt_hook_is_refused(name: str, meant: str) -> None:
    async def method(self: object) -> None:
        return None

    misspelt = type("Misspelt", (Nearest,), {name: method})
    text = refusal(misspelt)
    assert f"{name} is not a hook, and is never called" in text
    assert (f"did you mean {meant!r}?" if meant else "begin the name") in text


@pytest.mark.parametrize("name", ["room", "load", "open_door", "_media_locations", "adjust_theme"])
def test_other_methods_are_the_plugins_own(name: str) -> None:
    async def method(self: object) -> None:
        return None

    assert hooks_of(type("Own", (Nearest,), {name: method})) == {"media_location"}


def test_what_the_class_or_another_base_uses_is_no_misspelt_hook() -> None:
    class Pool:
        def close(self) -> None: ...

    class Pooled(Nearest, Pool):
        @override
        def close(self) -> None: ...

        @property
        def avatar(self) -> int:
            return 1

        def location(self) -> int:
            return 2

        def _room(self) -> object:
            return [self.location for _ in range(2)]

    assert hooks_of(Pooled) == {"media_location"}


def test_a_can_reject_that_raises_is_refused() -> None:
    class Unsure(Nearest):
        @property
        def can_reject(self) -> bool:
            raise LookupError("no list of guards")

    assert "its can_reject failed: LookupError: no list of guards" in refusal(Unsure)


@pytest.mark.parametrize("wrong", [Place(), "Place"])
def test_an_instance_or_a_name_is_no_class_of_settings(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"Wrong: Plugin\[\.\.\.\] takes a PluginSettings class"):
        types.new_class("Wrong", (Plugin[wrong],))
