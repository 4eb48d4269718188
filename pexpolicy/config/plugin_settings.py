"""Settings of a plugin: their base class, their types, and how they are read from a table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from itertools import chain
from pathlib import Path, PosixPath
from typing import Annotated, Any, ClassVar, Self, TypeVar
from zoneinfo import available_timezones

import pydantic_core
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    PlainValidator,
    PrivateAttr,
    SecretBytes,
    SecretStr,
    ValidationInfo,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticKnownError

from pexpolicy.config.files import NamedPath, Use
from pexpolicy.config.problems import Key
from pexpolicy.config.secrets import SecretError, read_secret
from pexpolicy.models.alias import Alias
from pexpolicy.models.contract import NO_EXTRAS, Extras, alternatives
from pexpolicy.text import did_you_mean

_AS_IN_PYTHON = frozenset(
    (
        *("any", "bool", "dict", "float", "int", "is-instance", "list", "literal", "none", "str"),
        *("model", "model-fields", "model-field", "typed-dict", "typed-dict-field"),
        *("default", "definitions", "definition-ref", "nullable", "tagged-union", "union", "chain"),
        *("function-after", "function-before", "function-plain", "function-wrap"),
        *("no-info", "with-info"),
    )
)
"""Types of a core schema that strict Python values and strict JSON fill alike."""


class PluginSettings(BaseModel):
    """The base of a plugin's ``Settings``: frozen, strict, and unknown keys are errors.

    A table is read as pydantic reads strict JSON: a ``Path``, ``Enum``, ``timedelta`` or network is
    written as text, a ``tuple`` or ``set`` as a list. pydantic does not check defaults; that of a
    ``ConfigPath`` is relative to the configuration file as well, but not inside of a default.
    A ``Secret`` has two keys, ``NAME_env`` and ``NAME_file``, of which one may be written.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        json_schema_extra=lambda schema, model: model._without_secrets(schema),  # noqa: SLF001
    )

    _context: Mapping[str, Any] = PrivateAttr({})
    """What the rest of the configuration tells the plugin."""
    _is_plain: ClassVar[bool | None] = None
    """True where Python values and JSON are read alike; found out at the first use."""

    _secrets: ClassVar[list[str]] = []
    """The fields of the type ``Secret``."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Add the keys of secrets, and have defaults of the type ``ConfigPath`` validated."""
        fields: dict[str, FieldInfo] = {}
        cls._secrets = []
        for name, field in cls.model_fields.items():
            fields[name] = field
            if isinstance(field.default, str | Path) and _BELOW_ROOT in field.metadata:
                field.validate_default = True
            inner = (getattr(one, "__metadata__", ()) for one in alternatives(field.annotation))
            if _GIVEN in chain(field.metadata, *inner):
                cls._secrets.append(name)
                given = _MISSING if field.is_required() else field.default
                field.default = SecretStr(given) if isinstance(given, str) else given
                for place, kind in _PLACES.items():
                    fields[f"{name}_{place}"] = FieldInfo(annotation=kind, default=None)
        if cls._secrets or any(field.validate_default for field in fields.values()):
            cls.__pydantic_fields__ = fields
            cls.model_rebuild(force=True, raise_errors=False)

    @classmethod
    def _without_secrets(cls, schema: dict[str, Any]) -> None:
        for name in cls._secrets:
            schema["properties"].pop(name, None)

    @model_validator(mode="after")
    def _set_context(self, info: ValidationInfo) -> Self:
        self._context = info.context or {}
        for name in self._secrets:
            keys = f"{name}_env (a variable) or {name}_file (a path)"
            given = self.model_fields_set & {name, f"{name}_env", f"{name}_file"}
            if len(given) > 1:
                raise ValueError(f"write {keys}, not both")
            found = self.__dict__[given.pop() if given else name]
            if found == _MISSING:
                raise ValueError(f"{name} is missing: write {keys}")
            self.__dict__[name] = found.secret if isinstance(found, _SecretFile) else found
        return self

    @property
    def extras(self) -> Extras:
        """Extra fields and values of ``[infinity]``, for decisions made from these settings."""
        found: Extras = self._context.get("extras", NO_EXTRAS)
        return found

    @property
    def plugin_timeout(self) -> float:
        """Seconds that the plugin has to answer: ``timeout`` of its table."""
        return float(self._context.get("timeout", 1.0))

    @property
    def config_folder(self) -> Path:
        """The folder of the configuration file."""
        return Path(self._context.get("root", ""))

    def of_config(self, name: str) -> Any:
        """Return what the table ``[infinity]`` or ``[tenants]`` says; ``None`` without a file."""
        return self._context.get(name)


M = TypeVar("M", bound=PluginSettings)
P = TypeVar("P", bound=Path)


def read_settings(model: type[M], table: Mapping[str, Any], context: Mapping[str, Any]) -> M:
    """Return the settings in a table of TOML; raises ``pydantic.ValidationError``.

    ``context`` is passed to the validators of the model, such as ``{"root": ...}``; with
    ``skips_secrets`` no secret is read.
    """
    if vars(model).get("_is_plain") is None:
        parts = [*_parts(model.__pydantic_core_schema__)]
        keys = {part["keys_schema"]["type"] for part in parts if "keys_schema" in part}
        is_plain = {part["type"] for part in parts} <= _AS_IN_PYTHON
        model._is_plain = is_plain and not keys & {"bool", "float", "int"}  # noqa: SLF001
    if not model._is_plain:  # noqa: SLF001 - of the same class
        try:
            text = json.dumps(table, default=_encode)
        except (TypeError, ValueError, RecursionError):
            pass  # objects of a test, which no configuration has
        else:
            return model.model_validate_json(text, context=context)
    return model.model_validate(table, context=context)


def lax_models(model: type[PluginSettings]) -> list[str]:
    """Return the names of nested models that would ignore unknown keys without an error."""
    nested = (
        part
        for part in _parts(model.__pydantic_core_schema__)
        if part["type"] in ("model", "dataclass")
        and not part.get("root_model")
        and part.get("config", {}).get("extra_fields_behavior") not in ("forbid", "allow")
    )
    return list(dict.fromkeys(part["cls"].__name__ for part in nested))


def key_of(settings: object, item: object) -> Key | None:
    """Return the key at which settings hold an object; ``None`` where they do not."""
    if settings is item:
        return ()
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(settings, BaseModel | Mapping):
        inner = dict(settings).items()
    elif isinstance(settings, list | tuple):
        inner = enumerate(settings)
    for name, value in inner:
        if (rest := key_of(value, item)) is not None:
            return (name.raw if isinstance(name, Alias) else name, *rest)
    return None


def _parts(schema: object) -> Iterator[dict[str, Any]]:
    """Yield the parts of a core schema that have a type."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema
        for key, value in schema.items():
            if key not in ("metadata", "serialization"):
                yield from _parts(value)
    elif isinstance(schema, list | tuple):
        for item in schema:
            yield from _parts(item)


def _encode(value: object) -> Any:
    if isinstance(value, SecretStr | SecretBytes):
        return value.get_secret_value()
    return pydantic_core.to_jsonable_python(value)


def _below_root(written: Any, info: ValidationInfo, kind: type[P], use: Use = "read") -> P:
    context = info.context or {}
    if not isinstance(written, str | Path):
        raise PydanticCustomError("string_type", "Input should be a valid string")
    path = kind(context.get("root", Path()), written)
    context.get("paths", []).append(NamedPath(path, use=use))
    return path


_BELOW_ROOT = PlainValidator(partial(_below_root, kind=Path), json_schema_input_type=str)
ConfigPath = Annotated[Path, _BELOW_ROOT]
"""A setting of a plugin that names a file, relative to the configuration file."""


_made = partial(_below_root, kind=Path, use="made")
_MADE = PlainValidator(_made, json_schema_input_type=str)
WrittenFolder = Annotated[Path, _MADE]
"""The same for a folder that the plugin makes and writes to."""


def _given(written: object, info: ValidationInfo) -> SecretStr:
    """Return a secret that a test passes; no file has one."""
    if info.context is not None or not isinstance(written, str | SecretStr):
        raise PydanticKnownError("extra_forbidden")
    return SecretStr(written) if isinstance(written, str) else written


class _SecretFile(PosixPath):
    """A file and the secret in it."""

    secret: SecretStr


def _read(written: object, info: ValidationInfo) -> SecretStr | _SecretFile:
    """Return the secret at the place that is written, which the name of the key tells."""
    if not isinstance(written, str):
        raise PydanticCustomError("string_type", "Input should be a valid string")
    name, _, place = (info.field_name or "").rpartition("_")
    file = _below_root(written, info, _SecretFile) if place == "file" else None
    secret = SecretStr("x" * 64)
    if not (info.context or {}).get("skips_secrets"):
        variable, path = (written, None) if file is None else (None, str(file))
        try:
            secret = SecretStr(read_secret(name, variable, path, Path()))
        except SecretError as error:
            raise ValueError(str(error)) from None
        if _CONTROL(secret.get_secret_value()):
            raise ValueError("has a control character")
    if file is None:
        return secret
    file.secret = secret
    return file


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]").search
_GIVEN = PlainValidator(_given)
_MISSING = SecretStr("")
"""The default of one that is required."""
_READ = PlainValidator(_read, json_schema_input_type=str)
_PLACES: dict[str, Any] = {
    "env": Annotated[SecretStr, _READ] | None,
    "file": Annotated[Path, _READ] | None,
}
Secret = Annotated[SecretStr, _GIVEN]
"""A setting ``NAME`` of a plugin that is read from the variable ``NAME_env`` or the file
``NAME_file``; its value is the ``SecretStr`` of pydantic. A test may pass ``NAME`` itself.
"""


@cache
def zone_names() -> frozenset[str]:
    """Return all names. They are read from many files, which takes 5 ms: once, not per rule."""
    return frozenset(available_timezones())


def _known(zone: str) -> str:
    if zone not in zone_names():
        # Another short name, such as CEST, would resemble that of another zone.
        meant = did_you_mean(zone, zone_names()) if "/" in zone else ""
        advice = meant or "; write one with a city, such as 'Europe/Oslo'"
        raise ValueError(f"there is no time zone {zone!r}{advice}")
    return zone


TimeZone = Annotated[str, AfterValidator(_known)]
"""A name such as ``Europe/Oslo``."""
