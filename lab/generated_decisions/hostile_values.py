"""Objects that are not what they seem, and some that raise at whatever is asked of them."""

import collections
import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import msgspec


class HostileError(Exception):
    """What the objects here raise."""


def refuse(*_: Any, **__: Any) -> NoReturn:
    raise HostileError("\ud800 hostile")


class Bomb:
    """Raises at whatever is asked of it."""

    __eq__ = __lt__ = __str__ = __repr__ = __len__ = __bool__ = __iter__ = __hash__ = refuse
    __getitem__ = __contains__ = __int__ = __index__ = __float__ = __call__ = refuse
    __class__ = property(refuse)

    def __getattr__(self, name: str) -> NoReturn:
        raise HostileError(name)


class Liar:
    """Claims to be what it is not."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._kind

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __len__(self) -> int:
        return -1  # noqa: PLE0303 - it lies

    def __str__(self) -> str:
        return "x" * 1000


class Text(str):
    """Text that is not what its methods say."""

    __slots__ = ()

    def __str__(self) -> str:
        return "4711"

    def __len__(self) -> int:
        return 4

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 7

    def isdigit(self) -> bool:
        return True


class Number(int):
    """A number that is not what its methods say."""

    def __int__(self) -> int:
        return 5

    __index__ = __int__

    def __ge__(self, other: object) -> bool:
        return True

    def __repr__(self) -> str:
        return "1e999"


class Items(list[Any]):
    """A list that is not what its methods say."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Table(dict[Any, Any]):
    """A dictionary that is not what its methods say."""

    def keys(self) -> Any:
        return {"disconnect"}

    def items(self) -> Any:
        return {"disconnect": True}.items()

    def __getitem__(self, key: Any) -> Any:
        return True


class Split(str, enum.Enum):  # noqa: UP042 - its text and its value differ
    """Its text is one thing and its value another."""

    SPLIT = ("sip", 3)
    PIN = ("1234", "12")
    ROLE = ("chair", ["host"])

    def __new__(cls, text: str, value: Any) -> Self:
        member = str.__new__(cls, text)
        member._value_ = value
        return member


class Plain(enum.Enum):
    A = "besteffort"
    B = 2
    C = None


class Word(enum.StrEnum):
    CHAIR = "chair"
    HOST = "host"


class Level(enum.IntEnum):
    ONE = 1
    MANY = 2_048_000


@dataclass
class Record:
    local_alias: Any = "a"
    remote_alias: Any = "b"
    protocol: Any = "sip"
    role: Any = "chair"


class Struct(msgspec.Struct):
    alias: str = "a"


class Endless(Mapping[str, Any]):
    """A mapping without an end."""

    def __getitem__(self, key: str) -> Any:
        return key

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            number += 1
            yield f"key{number}"

    def __len__(self) -> int:
        return 1


Pair = collections.namedtuple("Pair", ["alias", "description"])  # noqa: PYI024 - as old code has it
