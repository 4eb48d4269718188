"""The types of settings: what a table of TOML may hold, and what strict JSON makes of it."""

import enum
import tomllib
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from ipaddress import IPv4Network, IPv6Address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from pexpolicy import (
    Alias,
    AliasMap,
    AliasSet,
    ConfigPath,
    Plugin,
    PluginSettings,
    Secret,
    SettingsError,
    load_settings,
)
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.plugin_settings import read_settings
from pexpolicy.config.problems import problems_of
from pexpolicy.config.settings import ConfigError
from tests.support.fake_plugins import available

ROOT = Path("/etc/pexpolicy")


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int = 0


@pydantic_dataclass
class LaxPoint:
    x: int


class Size(TypedDict):
    width: int


class Nested(PluginSettings):
    limits: tuple[int, int] = (0, 0)


class Lax(BaseModel):
    x: int = 0


class Forbids(BaseModel):
    model_config = ConfigDict(extra="forbid")

    x: int = 0


def model_with(annotation: Any) -> type[PluginSettings]:
    return type(
        "Model", (PluginSettings,), {"__annotations__": {"value": annotation}, "__module__": "m"}
    )


def problems(annotation: Any, toml: str) -> list[str]:
    """What a plugin with a setting ``value`` of this type says of a configuration."""

    class Toy(Plugin):
        async def media_location(self, request: object) -> None:
            return None

    Toy.Settings = model_with(annotation)  # type: ignore[misc]
    document = {"plugins": {"toy": {"settings": tomllib.loads(toml)}}}
    try:
        build_policy(
            from_document(document, ROOT / "config.toml"), available=available({"toy": Toy})
        )
    except ConfigError as error:
        return [str(problem).removeprefix("plugins.toy.settings.") for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("annotation", "toml", "value"),
    [
        (Path, '"rooms.csv"', Path("rooms.csv")),
        (ConfigPath, '"rooms.csv"', ROOT / "rooms.csv"),
        (ConfigPath | None, '"/srv/rooms.csv"', Path("/srv/rooms.csv")),
        (Colour, '"red"', Colour.RED),
        (tuple[int, str], '[1, "a"]', (1, "a")),
        (tuple[int, ...], "[1, 2]", (1, 2)),
        (set[str], '["a", "a"]', {"a"}),
        (frozenset[str], '["a"]', frozenset({"a"})),
        (timedelta, '"PT5M"', timedelta(minutes=5)),
        (IPv4Network, '"10.0.0.0/8"', IPv4Network("10.0.0.0/8")),
        (list[IPv6Address], '["::1"]', [IPv6Address("::1")]),
        (
            UUID,
            '"3e4e1bd9-7439-4c53-8ca2-6ef1a8e34cfc"',
            UUID("3e4e1bd9-7439-4c53-8ca2-6ef1a8e34cfc"),
        ),
        (datetime, "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (datetime, '"2026-01-02T03:04:05Z"', datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (date, "2026-01-02", date(2026, 1, 2)),
        (time, "08:00:00", time(8)),
        (SecretStr, '"tonight"', SecretStr("tonight")),
        (tuple[float, ...], "[1, inf]", (1.0, float("inf"))),
        (Point, "{x = 1}", Point(1)),
        (Size, "{width = 1}", {"width": 1}),
        (
            dict[str, Nested],
            "{a = {limits = [1, 2]}}",
            {"a": read_settings(Nested, {"limits": [1, 2]}, {"root": ROOT})},
        ),
        (Forbids, "{x = 1}", Forbids(x=1)),
        (Alias, '"sip:Bob@Example.com"', Alias("bob@example.com")),
        (list[Alias], '["sip:Bob@Example.com"]', ["bob@example.com"]),
        (AliasSet, '["sip:Bob@Example.com"]', {"bob@example.com"}),
        (AliasMap[int], '{"sip:Bob@Example.com" = 1}', {"bob@example.com": 1}),
        (AliasMap[tuple[int, int]], '{"Bob" = [8, 16]}', {"bob": (8, 16)}),
    ],
)
def test_a_value_of_toml_is_read_as_its_type(annotation: Any, toml: str, value: Any) -> None:
    table = tomllib.loads(f"value = {toml}")
    read: Any = read_settings(model_with(annotation), table, {"root": ROOT})
    assert read.value == value
    assert problems(annotation, f"value = {toml}") == []


@pytest.mark.parametrize(
    ("annotation", "toml", "problem"),
    [
        (int, '"1"', "value: should be a whole number, not '1'"),
        (tuple[int, ...], '["1"]', "value[0]: should be a whole number, not '1'"),
        (tuple[int, ...], "1", "value: should be a list, not 1"),
        (set[str], "[1]", "value[0]: should be text, not 1; write it in quotes"),
        (timedelta, "5", "value: "),
        (timedelta, '"soon"', "value: "),
        (IPv4Network, '"10.0.0.1/8"', "value: "),
        (Colour, '"rde"', "value: should be 'red', not 'rde'"),
        (Path, "1", "value: should be text, not 1; write it in quotes"),
        (Point, "{x = 1, z = 2}", "value.z: unknown key"),
        (Point, "{}", "value.x: is missing"),
        (Size, "{width = 1, height = 2}", "value.height: unknown key"),
        (dict[str, Nested], "{a = {limit = [1, 2]}}", "value.a.limit: unknown key; did you mean"),
        (dict[str, tuple[int, int]], "3", "value: should be a table, not 3"),
        (Alias, '""', "value: must be an alias, such as room@example.com, not ''"),
        (Alias, '"sip:@example.com"', "value: must be an alias, such as room@example.com, not"),
        (Alias, "4711", "value: should be text, not 4711; write it in quotes"),
        (AliasSet, '["a", ""]', "value[1]: must be an alias, such as room@example.com, not ''"),
        (AliasMap[int], '{" " = 1}', 'value." ": must be an alias, such as room@example.com'),
        (AliasMap[int], '{a = "1"}', "value.a: should be a whole number, not '1'"),
        (
            AliasMap[int],
            '{"A@b.c" = 1, "sip:a@b.c" = 2}',
            "value: 'sip:a@b.c' is the same alias as 'A@b.c'",
        ),
    ],
)
def test_a_wrong_value_is_reported_with_its_key(annotation: Any, toml: str, problem: str) -> None:
    (text,) = problems(annotation, f"value = {toml}")
    assert text.startswith(problem)


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (Lax, "Lax"),
        (list[Lax] | None, "Lax"),
        (dict[str, Lax], "Lax"),
        (AliasMap[Lax], "Lax"),
        (LaxPoint, "LaxPoint"),
    ],
)
def test_a_table_that_ignores_unknown_keys_is_refused(annotation: Any, name: str) -> None:
    (text,) = problems(annotation, "")
    assert text.startswith("plugins.toy: toy (toy-toy 1.0): ")
    assert f"{name} in the Settings of Toy do not inherit PluginSettings" in text


def test_objects_of_a_test_are_read_too() -> None:
    class Model(PluginSettings):
        path: Path
        secret: SecretStr
        days: frozenset[int]

    table = {"path": Path("a"), "secret": SecretStr("b"), "days": {1}}
    assert read_settings(Model, table, {}) == Model(
        path=Path("a"), secret=SecretStr("b"), days=frozenset({1})
    )


class WithSecrets(PluginSettings):
    url: str = ""
    token: Secret
    password: Secret | None = None
    parts: dict[str, "Part"] = {}


class Part(PluginSettings):
    pin: Secret | None = None


class Inheriting(WithSecrets):
    key: Secret = SecretStr("default")


SECRETS: list[tuple[type[PluginSettings], dict[str, Any], dict[str, str | None] | list[str]]] = [
    (WithSecrets, {"token_env": "T"}, {"token": "s3cret", "password": None}),
    (WithSecrets, {"token_file": "t"}, {"token": "of a file", "password": None}),
    (Inheriting, {"token_env": "T"}, {"token": "s3cret", "key": "default"}),
    (Inheriting, {"token_env": "T", "key_file": "t"}, {"key": "of a file"}),
    (WithSecrets, {}, ["token is missing: write token_env (a variable) or token_file"]),
    (WithSecrets, {"token": "hunter2"}, ["token: unknown key; a secret is never in this file"]),
    (WithSecrets, {"token_env": "T", "token_file": "t"}, ["write token_env (a variable) or"]),
    (WithSecrets, {"token_env": 5}, ["token_env: should be text"]),
    (WithSecrets, {"token_env": "ESCAPE"}, ["token_env: has a control character"]),
    (
        WithSecrets,
        {"url": 1, "token_env": "NOT_SET", "password_file": "x", "parts": {"a": {"pin_env": "N"}}},
        ["url: ", "token_env: ", "password_file: ", "parts.a.pin_env: the environment variable N"],
    ),
]


@pytest.mark.parametrize(("model", "table", "expected"), SECRETS)
def test_a_secret_is_read_from_the_place_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any, table: Any, expected: Any
) -> None:
    (tmp_path / "t").write_text("of a file\n")
    monkeypatch.setenv("T", "s3cret")
    monkeypatch.setenv("ESCAPE", "a\x1bb")
    try:
        found = read_settings(model, table, {"root": tmp_path})
    except ValidationError as error:
        said = list(map(str, problems_of(error, model)))
        assert len(said) == len(expected)
        assert all(map(str.startswith, said, expected)), said
        assert "hunter2" not in str(said)
    else:
        values = {name: getattr(found, name) for name in expected}
        assert {name: v and v.get_secret_value() for name, v in values.items()} == expected
        assert "s3cret" not in repr(found)
    assert "token" not in model.model_json_schema()["properties"]
    assert "token_file" in model.model_json_schema()["properties"]


def test_a_test_passes_a_secret_itself_and_a_command_loads_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = WithSecrets(token=SecretStr("s"), parts={"a": Part(pin=SecretStr("1"))})
    assert settings.token.get_secret_value() == "s"
    monkeypatch.setenv("T", "s3cret")
    source = (
        "from pexpolicy import Plugin\nfrom tests.config.test_settings_types import WithSecrets\n"
    )
    source += "class Own(Plugin[WithSecrets]):\n    def status(self): return {}\n"
    (tmp_path / "own.py").write_text(source)
    config = tmp_path / "config.toml"
    table = 'plugin_dirs = ["."]\n[plugins.own.settings]\n'
    config.write_text(f'{table}token_env = "T"\n')
    monkeypatch.setenv("PEXPOLICY_CONFIG", str(config))
    assert load_settings("own").token.get_secret_value() == "s3cret"
    for text, key in (
        (f'{table}token_env = "N"\nurl = 5\n', "plugins.own.settings.url: "),
        (f'{table}token_env = "N"\n', "plugins.own.settings.token_env: "),
        ("[plugins.other]\n", "plugins.own: is missing in "),
        ("[plugin]\n", "plugin: unknown key"),
    ):
        config.write_text(text)
        with pytest.raises(SettingsError, match=key):
            load_settings("own")
