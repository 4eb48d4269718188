"""The messages of msgspec and orjson that refusals are derived from."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from pexpolicy.models.contract import render


class Inner(msgspec.Struct, kw_only=True):
    number: int
    word: Literal["a", "b"] = "a"


class Outer(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: str
    short: Annotated[str, Meta(max_length=2)] = ""
    inner: list[Inner] = []


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{}", "Object missing required field `name`"),
        ('{"name": 1}', "Expected `str`, got `int` - at `$.name`"),
        ('{"name": "x", "short": "xyz"}', "Expected `str` of length <= 2 - at `$.short`"),
        (
            '{"name": "x", "inner": [{"number": 1}, {}]}',
            "Object missing required field `number` - at `$.inner[1]`",
        ),
        (
            '{"name": "x", "inner": [{"number": "1"}]}',
            "Expected `int`, got `str` - at `$.inner[0].number`",
        ),
        (
            '{"name": "x", "inner": [{"number": 1, "word": "c"}]}',
            "Invalid enum value 'c' - at `$.inner[0].word`",
        ),
    ],
)
def test_msgspec_ends_its_message_with_the_place(written: str, message: str) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.json.decode(written, type=Outer)
    assert str(error.value) == message


def nested() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("\ud800", "surrogates not allowed"),
        (nested(), "Recursion limit"),
        ({1: "x"}, "Dict key must be str"),
        (1 << 64, "Integer exceeds 64-bit"),
    ],
)
def test_orjson_says_why_a_value_has_no_json(value: object, message: str) -> None:
    with pytest.raises(TypeError) as error:
        render({"field": value})
    assert message in str(error.value.__cause__ or error.value)
