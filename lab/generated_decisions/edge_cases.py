"""Values of every kind: what plugins hand over by mistake, and what only malice makes."""

import collections
import datetime as dt
import decimal
import fractions
import pathlib
import random
import types
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from lab.generated_decisions.hostile_values import (
    Bomb,
    Endless,
    Items,
    Level,
    Liar,
    Number,
    Pair,
    Plain,
    Record,
    Split,
    Struct,
    Table,
    Text,
    Word,
)
from pexpolicy import Alias, Conference, Continue, DirectoryEntry, Reject

Make = Callable[[random.Random], Any]


async def _never() -> None:
    return None


COROUTINE = _never()
COROUTINE.close()
"""One that was closed: it needs no waiting for, and is a coroutine all the same."""


def cyclic_list() -> list[Any]:
    items: list[Any] = [1]
    items.append(items)
    return items


def cyclic_table() -> dict[str, Any]:
    table: dict[str, Any] = {}
    table["self"] = {"deep": [table]}
    return table


def deep(rng: random.Random) -> Any:
    value: Any = rng.choice(("end", 1, None))
    for _ in range(rng.choice((5, 120, 300, 2000))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def nested(rng: random.Random) -> Any:
    """Lists and dictionaries of oddities."""
    count = rng.randrange(4)
    if rng.random() < 0.5:
        return [strange(rng) for _ in range(count)]
    return {rng.choice(KEYS): strange(rng) for _ in range(count)}


KEYS: tuple[Any, ...] = ("a", "transfer", "conference", "role", "disconnect", "mix_name", "")
TEXTS = (
    *(
        "",
        "x",
        "None",
        "True",
        "null",
        "0",
        "-1",
        "2048",
        "1234",
        "12 34",
        "\uff11\uff12\uff13\uff14",
    ),
    *("x" * 250, "x" * 251, "é" * 250, "\U0001f600" * 251, "{" * 1000),
    *("\x00", "a\nb", "\ud800", "ok \udfff end", "\u202eevil", "<script>", "..", "a.b.c.d"),
    *('{"disconnect": true}', '{"transfer": {"conference": "x"}}', "sip:a@b", "one_main_seven_pip"),
)
NUMBERS = (0, 1, -1, 30, 31, 128, 2048, 127_999, 8_192_001, 2**31, 2**53, 2**63, 2**64, -(2**63))
FLOATS = (0.0, -0.0, 1.5, 2_048_000.0, 1e308, float("nan"), float("inf"), float("-inf"))
FIXED: tuple[Any, ...] = (
    *(None, True, False, *NUMBERS, 10**40, *FLOATS, 1j, ..., NotImplemented, msgspec.UNSET),
    *(b"bytes", bytearray(b"x"), memoryview(b"x"), (), [], {}, set(), {1, 2}, frozenset(("a",))),
    *(range(3), range(10**9), object(), int, Conference, len, lambda: "text", ValueError("x")),
    *(types.MappingProxyType({"name": "x"}), collections.OrderedDict(alias="a")),
    *(collections.Counter("aab"), collections.deque((1, 2)), Pair("a", "b")),
    *(
        decimal.Decimal("1.0"),
        fractions.Fraction(1, 3),
        uuid.UUID(int=1),
        pathlib.PurePosixPath("/"),
    ),
    *(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.date(2026, 1, 1), dt.timedelta(1)),
    *(COROUTINE, Bomb, Record(), Record(protocol="h320"), Struct(), Endless()),
    *(Alias("sip:Bob@Example.com"), Continue(), Reject(reject_reason="no")),
    *(DirectoryEntry(alias="a", description="b"), Conference(name="x", service_tag="")),
    *(*Split, *Plain, *Word, *Level, Text("12"), Text("x" * 300), Text("\ud800")),
    *(
        Number(3),
        Number(10**30),
        Items([{"alias": 1}]),
        Table(foo=1),
        cyclic_list(),
        cyclic_table(),
    ),
    *({1: 2}, {None: 1}, {Text("a"): 1, "a": 2}, {"a": {b"x": 1}}),
)
MAKERS: tuple[Make, ...] = (
    lambda _: Bomb(),
    lambda rng: Liar(rng.choice((str, int, dict, list, bool, type(None), Conference, Mapping))),
    lambda _: (item for item in "abc"),
    lambda _: iter([1]),
    lambda rng: rng.randbytes(rng.randrange(40)),
    lambda rng: "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randrange(20))),
    lambda rng: rng.randrange(-(2**70), 2**70),
    deep,
    nested,
    nested,
)
HUGE = "\u00e9" * 5_000_000
"""Ten megabytes of text."""


def strange(rng: random.Random) -> Any:
    """Any of them."""
    chance = rng.random()
    if chance < 0.35:
        return rng.choice(TEXTS)
    if chance < 0.8:
        return rng.choice(FIXED)
    if chance < 0.9995:
        return rng.choice(MAKERS)(rng)
    return HUGE
