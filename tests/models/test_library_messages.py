"""The messages of msgspec and orjson that refusals are derived from."""

from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta


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
