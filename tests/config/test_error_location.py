"""Errors of nested settings: the key as it is written, and no secret."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import AliasChoices, Field, RootModel, SecretStr, ValidationError
from typing_extensions import TypedDict

from pexpolicy import AliasMap, PluginSettings
from pexpolicy.config.plugin_settings import lax_models, read_settings
from pexpolicy.config.problems import problems_of


class Desk(PluginSettings):
    code: SecretStr


@dataclass
class Data:
    code: SecretStr


class Typed(TypedDict):
    code: SecretStr


class Basic(PluginSettings):
    kind: Literal["basic"]
    user: str
    code: SecretStr | None = None


class Token(PluginSettings):
    kind: Literal["token"]
    value: SecretStr


Access = Annotated[Token | Basic, Field(discriminator="kind")]


def problems(annotation: Any, value: Any, field: Any = ...) -> list[str]:
    """Return the problems of settings with one field of this type."""
    members = {"__annotations__": {"a": annotation}, "__module__": __name__}
    model = type("S", (PluginSettings,), members if field is ... else {**members, "a": field})
    with pytest.raises(ValidationError) as raised:
        read_settings(model, {"a": value} if field is ... else value, {})
    return [str(problem) for problem in problems_of(raised.value, model)]


@pytest.mark.parametrize(
    ("annotation", "wrap"),
    [
        (Desk, lambda desk: desk),
        (Desk | None, lambda desk: desk),
        (dict[str, Desk], lambda desk: {"code": desk}),
        (AliasMap[Desk], lambda desk: {"x@example.com": desk}),
        (list[Desk], lambda desk: [desk]),
        (dict[str, list[Desk]], lambda desk: {"x": [desk]}),
        (Data, lambda desk: desk),
        (dict[str, Data], lambda desk: {"x": desk}),
        (Typed, lambda desk: desk),
        (Access, lambda desk: {"kind": "basic", "user": "x", **desk}),
        (list[Access], lambda desk: [{"kind": "basic", "user": "x", **desk}]),
    ],
)
def test_a_secret_is_not_shown_however_deep(annotation: Any, wrap: Any) -> None:
    (text,) = problems(annotation, wrap({"code": 918273}))
    assert text.endswith("code: should be text; write it in quotes")
    assert "918273" not in text


def test_a_secret_with_another_name_is_not_shown() -> None:
    (text,) = problems(SecretStr, {"number": 918273}, Field(alias="number"))
    assert text == "number: should be text; write it in quotes"


@pytest.mark.parametrize("field", [{"alias": "from"}, {"validation_alias": AliasChoices("from")}])
def test_a_guess_is_a_name_that_can_be_written(field: dict[str, Any]) -> None:
    texts = problems(str, {"form": "x"}, Field(default="", **field))
    assert texts == ["form: unknown key; did you mean 'from'?"]


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (Access, {"kind": "basic"}, ["a.user: is missing"]),
        (
            Access,
            {"kind": "basic", "user": 3},
            ["a.user: should be text, not 3; write it in quotes"],
        ),
        (Access, {"kind": "basik"}, ["a.kind: is none of these; did you mean 'basic'?"]),
        (Access, {}, ["a.kind: is missing"]),
        (list[Access], [{"kind": "basic"}], ["a[0].user: is missing"]),
        (dict[str, Access | None], {"x": {"kind": "basic"}}, ["a.x.user: is missing"]),
        (
            int | Literal["auto"],
            "atuo",
            [
                "a: should be a whole number, not 'atuo'",
                "a: should be 'auto', not 'atuo'; did you mean 'auto'?",
            ],
        ),
    ],
)
def test_the_key_is_the_one_that_is_written(
    annotation: Any, value: Any, expected: list[str]
) -> None:
    found = problems(annotation, value)
    assert len(found) == len(expected)
    assert all(map(str.startswith, found, expected))


@pytest.mark.parametrize("value", [3, [], "x", None])
def test_settings_that_are_no_table_are_one_problem_without_a_key(value: Any) -> None:
    with pytest.raises(ValidationError) as raised:
        read_settings(Desk, value, {})
    assert [(one.key, "table" in one.text) for one in problems_of(raised.value, Desk)] == [
        ((), True)
    ]


def test_a_table_of_any_names_has_no_unknown_keys() -> None:
    class Names(RootModel[dict[str, str]]):
        pass

    class S(PluginSettings):
        names: Names

    assert lax_models(S) == []
    assert read_settings(S, {"names": {"a": "b"}}, {}).names.root == {"a": "b"}
