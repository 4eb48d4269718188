"""The settings of plugins: their mistakes are told like those of the core."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
import pytest

from pexpolicy import Conference, ConfigWarning, PluginSettings, Problem, SettingsError, hookimpl
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError
from tests.support.fake_plugins import always, available, plugin


class Strict:
    """A plugin with settings of its own."""

    class Settings(PluginSettings):
        room: str
        number: int = 1
        nested: dict[str, int] = pydantic.Field(default_factory=dict)

    def __init__(self, settings: Settings) -> None:
        if settings.room == "twice wrong":
            first = Problem(("nested", "a"), "is odd")
            raise SettingsError("cannot be", key=("room",), problems=[first])
        if settings.room == "explodes":
            raise RuntimeError("while it was built")
        if settings.room == "rambles":
            raise RuntimeError("on and on " * 100)
        if settings.room == "long":
            Conference(name="x", service_tag="", max_callrate_in="1000")  # type: ignore[arg-type]

    @hookimpl
    async def service_configuration(self) -> None:
        """Abstain."""

    @hookimpl
    def config_warnings(self) -> list[ConfigWarning]:
        return [ConfigWarning(("room",), "is rather small")]


def built(tables: Mapping[str, Any], classes: Mapping[str, Any]) -> list[str]:
    settings = from_document({"plugins": tables}, Path("config.toml"))
    with pytest.raises(ConfigError) as error:
        build_policy(settings, available=available(classes))
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["plugins.strict.settings.room: is missing"]),
        ({"room": 1}, ["plugins.strict.settings.room: should be text, not 1; write it in quotes"]),
        (
            {"room": "a", "nmber": 2},
            ["plugins.strict.settings.nmber: unknown key; did you mean 'number'?"],
        ),
        (
            {"room": "a", "nested": {"x y": "z"}},
            [("plugins.strict.settings.nested.\"x y\": should be a whole number, not 'z'")],
        ),
        (
            {"room": "twice wrong"},
            ["plugins.strict.settings.nested.a: is odd", "plugins.strict.settings.room: cannot be"],
        ),
    ],
)
def test_mistakes_in_the_settings_of_a_plugin_are_named_the_same_way(
    settings: dict[str, Any], expected: list[str]
) -> None:
    found = built({"strict": {"settings": settings}}, {"strict": Strict})
    assert len(found) == len(expected)
    assert all(map(str.startswith, found, expected))


def test_the_errors_of_all_plugins_are_reported_at_once() -> None:
    tables = {"strict": {"settings": {}}, "stric": {}, "other": {"settings": {"a": 1}}, "fine": {}}
    classes = {"strict": Strict, "other": plugin(lifespan=always(None)), "fine": Strict}
    found = built(tables, classes)
    assert any("plugins.stric: " in text and "'strict'" in text for text in found)
    assert any("plugins.strict.settings.room" in text for text in found)
    assert any("plugins.other.settings.a: unknown key" in text for text in found)
    assert any("plugins.fine.settings.room" in text for text in found)


def test_a_plugin_that_explodes_while_it_is_built_is_named() -> None:
    (problem,) = built({"strict": {"settings": {"room": "explodes"}}}, {"strict": Strict})
    assert problem.startswith("plugins.strict: strict (toy-strict 1.0) cannot be built: ")
    assert "RuntimeError: while it was built (test_plugin_settings.py:" in problem


def test_a_decision_that_cannot_be_made_while_it_is_built_is_reported_whole() -> None:
    (problem,) = built({"strict": {"settings": {"room": "long"}}}, {"strict": Strict})
    assert "DecisionError: Conference.max_callrate_in = '1000': must be" in problem
    assert "Infinity would drop the whole result and use its own database. (test_plu" in problem


def test_a_message_that_is_cut_ends_after_a_whole_word() -> None:
    (problem,) = built({"strict": {"settings": {"room": "rambles"}}}, {"strict": Strict})
    assert "on and on… (test_plugin_settings.py:" in problem
    assert len(problem) < 400


def test_warnings_of_a_plugin_have_keys_under_its_settings() -> None:
    document = {"plugins": {"strict": {"settings": {"room": "a"}}}}
    settings = from_document(document, Path("config.toml"))
    policy = build_policy(settings, available=available({"strict": Strict}))
    assert [str(warning) for warning in policy.warnings] == [
        "plugins.strict.settings.room: is rather small"
    ]
