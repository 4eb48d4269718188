"""Mapping and set of aliases, which compare in their normal form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, TypeVar, get_args, overload

from pexpolicy.models.alias import Alias, checked_alias, without_password

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

T = TypeVar("T")
D = TypeVar("D")
V_co = TypeVar("V_co", covariant=True)


class AliasMap(Mapping[Alias, V_co]):
    """A frozen mapping by alias: ``sip:Bob@Example.com`` and ``bob@example.com`` are one key.

    Its keys are ``Alias`` objects, and ``raw`` of each is the alias as it was written. As a setting
    of a plugin it is a table. Raises ``ValueError`` for a key that is no alias, and for two keys
    that are the same alias.
    """

    __slots__ = ("_values",)

    def __init__(self, items: Mapping[str, V_co] | Iterable[tuple[str, V_co]] = ()) -> None:
        self._values: dict[Alias, V_co] = {}
        for written, value in items.items() if isinstance(items, Mapping) else items:
            alias = checked_alias(written)
            if alias in self._values:
                first = next(known for known in self._values if known == alias)
                texts = [repr(without_password(text)) for text in (written, first.raw)]
                msg = " is the same alias as ".join(texts)
                raise ValueError(msg)
            self._values[alias] = value

    def __getitem__(self, alias: str) -> V_co:
        return self._values[alias if type(alias) is Alias else Alias(alias)]

    @overload
    def get(self, alias: str, default: None = None, /) -> V_co | None: ...
    @overload
    def get(self, alias: str, default: V_co | D, /) -> V_co | D: ...
    def get(self, alias: str, default: Any = None, /) -> Any:
        """Return the value of an alias, or the default."""
        return self._values.get(alias if type(alias) is Alias else Alias(alias), default)

    def __contains__(self, alias: object) -> bool:
        return isinstance(alias, str) and Alias(alias) in self._values

    def __iter__(self) -> Iterator[Alias]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"AliasMap({dict(self._values)!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - for settings only

        value = next(iter(get_args(source)), None)
        table = core_schema.dict_schema(
            core_schema.no_info_after_validator_function(_written, core_schema.str_schema()),
            core_schema.any_schema() if value is None else handler.generate_schema(value),
            strict=False,  # an ``AliasMap`` is taken, too
        )
        return core_schema.no_info_after_validator_function(
            cls,
            table,
            serialization=core_schema.plain_serializer_function_ser_schema(
                cls._as_written, return_schema=table
            ),
        )

    def _as_written(self) -> dict[str, V_co]:
        return {alias.raw: value for alias, value in self._values.items()}


class AliasSet(AbstractSet[Alias]):
    """A frozen set of aliases; ``"SIP:Bob@Example.com" in AliasSet(["bob@example.com"])``.

    As a setting of a plugin it is a list. Raises ``ValueError`` for a text that is no alias.
    """

    __slots__ = ("_aliases",)

    def __init__(self, aliases: Iterable[str] = ()) -> None:
        self._aliases = frozenset(map(checked_alias, aliases))

    def __contains__(self, alias: object) -> bool:
        return isinstance(alias, str) and Alias(alias) in self._aliases

    def __iter__(self) -> Iterator[Alias]:
        return iter(self._aliases)

    def __len__(self) -> int:
        return len(self._aliases)

    def __hash__(self) -> int:
        return hash(self._aliases)

    def __repr__(self) -> str:
        return f"AliasSet({sorted(alias.raw for alias in self._aliases)!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - for settings only

        aliases = core_schema.list_schema(handler.generate_schema(Alias), strict=False)
        return core_schema.no_info_after_validator_function(
            cls,
            aliases,
            serialization=core_schema.plain_serializer_function_ser_schema(cls._as_written),
        )

    def _as_written(self) -> list[str]:
        return [alias.raw for alias in self._aliases]


def _written(written: str) -> str:
    checked_alias(written)
    return written
