"""Problems and warnings of a configuration, with messages for an administrator."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pydantic
from pydantic import BaseModel

from pexpolicy.config.schema import key_docs
from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.text import brief, did_you_mean, suggest

Key = tuple[str | int, ...]
_SECRET = re.compile(r"token|secret|passw|passcode|credential|pin$|^key$|api_?key", re.IGNORECASE)
_USER_OR_URL = re.compile(r"^user(name)?$|endpoint$|url$")
"""Keys whose malformed value may hold a password or a query, as in ``user:password``."""
_PLAIN_WORDS = {
    "a valid integer": "a whole number",
    "a valid string": "text",
    "a valid boolean": "true or false",
    "valid ": "",
    "a dictionary": "a table",
    "an object": "a table",
    "a array": "a list",
}
"""Words of pydantic, and what an administrator calls the same."""
_TABLE = "; write its keys below [NAME]"
_NUMBER = "; write a number without quotes and without a unit"
_FORMS = {
    "list_type": '; write it in square brackets, as in ["first"], or each below [[NAME]]',
    "dict_type": _TABLE,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "string_type": "; write it in quotes",
    "bool_type": "; write true or false without quotes",
    "time_delta_type": '; write text, as in "PT90S"',
    "time_delta_parsing": '; write text, as in "PT90S"',
    "time_parsing": '; write it as in "08:00"',
    "time_type": '; write it as in "08:00"',
    "int_type": _NUMBER,
    "float_type": _NUMBER,
}
"""By the type of an error: what to write."""


@dataclass(frozen=True, slots=True)
class _Remark:
    """A message about a key of the configuration."""

    key: Key
    text: str
    cause: BaseException | None = field(default=None, compare=False, repr=False)
    """What a plugin raised, for the traceback in a test."""
    at: tuple[int, int] | None = field(default=None, compare=False, repr=False)
    """Line and column, both from 1, where the file cannot be parsed."""

    def __str__(self) -> str:
        return f"{dotted_key(self.key)}: {self.text}" if self.key else self.text


class Problem(_Remark):
    """One error in the configuration: its key, what is wrong and what to write instead."""

    __slots__ = ()


class ConfigWarning(_Remark):
    """One valid but questionable setting."""

    __slots__ = ()


class PartError(Exception):
    """A part of the configuration is wrong; ``problems`` have keys relative to it."""

    def __init__(self, *texts: str, key: Key | str = (), problems: Iterable[Problem] = ()) -> None:
        at = (key,) if isinstance(key, str) else key
        self.problems = (*problems, *(Problem(at, text) for text in texts))
        super().__init__("; ".join(map(str, self.problems)))

    def under(self, key: Key) -> list[Problem]:
        """Return the problems with the key of the part before their own."""
        return [replace(one, key=(*key, *one.key)) for one in self.problems]


class PluginBuildError(PartError):
    """A plugin cannot be built; ``problems`` are relative to its table."""


class SettingsError(PartError, ValueError):
    """Raised by the constructor of a plugin for settings of the right types with invalid values.

    ``problems`` are relative to the plugin's settings; ``SettingsError("text", key="x")`` has one.
    """


def dotted_key(key: Key) -> str:
    """Return a key in TOML syntax, quoted where necessary."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            text += ("." if text else "") + (part if bare else f'"{part}"')
    return text


def problems_of(error: pydantic.ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Convert the errors of pydantic to problems."""
    return [_problem(dict(item), model) for item in error.errors(include_url=False)]


def _problem(item: Mapping[str, Any], model: type[BaseModel]) -> Problem:
    key, table, annotation, may_be_secret = _locate(item["loc"], model)
    kind, written, context = item["type"], item["input"], item.get("ctx", {})
    words = re.findall(r"'([^']*)'", str(context.get("expected", context.get("expected_tags", ""))))
    # Where any other key is a table, a word is a misspelt key.
    known = _fields_of(table) if kind == "model_type" else {}
    is_misspelt = known and key[-1] not in known and not isinstance(written, Mapping)
    if kind in ("extra_forbidden", "unexpected_keyword_argument") or is_misspelt:
        return Problem(key, f"unknown key{_instead(key, table, model)}")
    if kind.startswith("union_tag"):
        tag = suggest(str(context.get("tag")), words)
        at = (*key, context["discriminator"].strip("'"))
        return Problem(at, f"is none of these{tag}" if words else "is missing")
    if kind in ("missing", "missing_argument"):
        words = re.findall(r"Literal\[(.*?)\]", str(annotation))
        choice = f"; write one of {words[0]}" if words else _meaning(key, table)
        return Problem(key, f"is missing{choice}")
    text = re.sub(
        r"^(Value error, |Input |String |List )| or (instance|an object) .*", "", item["msg"]
    )
    for name, plain in _PLAIN_WORDS.items():
        text = text.replace(name, plain)
    text = text[:1].lower() + text[1:]
    if key[-1:] == ("[key]",):
        text = f"unknown name{suggest(str(key[-2]), words)}" if words else text
        return Problem(key[:-1], text)
    if kind in ("value_error", "assertion_error") or not key:
        return Problem(key, text)
    hides = isinstance(written, Mapping | list) or may_be_secret
    may_hold_one = _USER_OR_URL.search(str(key[-1])) and re.search("[:?@]", str(written))
    if not hides and not may_hold_one:
        text += f", not {brief(written)}"
        text += did_you_mean(str(written), words) if kind == "literal_error" else ""
    return Problem(key, text + (_FORMS.get(kind) or _meaning(key, table)))


def _meaning(key: Key, table: Any) -> str:
    """Return the first sentence about a key, after a colon, if it has one."""
    try:
        text = key_docs(table).get(str(key[-1]), "")
    except (OSError, TypeError, SyntaxError, ValueError):  # the source is not there
        return ""
    first = re.split(r"[.;](?:\s|\Z)", text.replace("`", ""), maxsplit=1)[0]
    begin = first[:1] if first[1:2].isupper() else first[:1].lower()
    return f": {begin}{first[1:]}" if first else ""


def _instead(key: Key, table: Any, model: type[BaseModel]) -> str:
    """Return what to write instead of a key that does not exist, after a semicolon."""
    name = [part for part in key if isinstance(part, str)][-1]
    around = dotted_key(key[:-1])
    known, is_whole = list(_fields_of(table)), "plugin_dirs" in model.model_fields
    if guess := did_you_mean(name, known):
        return guess
    secrets = [one for one in (f"{name}_env", f"{name}_file") if one in known]
    hint = ""
    if secrets:
        hint = f"; a secret is never in this file: write {' or '.join(secrets)}"
    elif is_whole and not around:
        hint = f"; if it is a plugin, write [plugins.{dotted_key((name,))}]"
    elif is_whole and name in model.model_fields:
        top = name if name == "plugin_dirs" else f"[{name}]"
        hint = f"; it belongs at the top of the file, as {top}"
    elif table is PluginTable:
        hint = f"; keys of the plugin itself belong under [{around}.settings]"
    elif not is_whole and name in PluginTable.model_fields:
        hint = "; it is a key of [plugins.NAME] itself"
    return hint + suggest(name, known)


def _locate(location: Key, model: type[BaseModel]) -> tuple[Key, Any, Any, bool]:
    """Return the key of an error of pydantic as it is written, the table that holds it, its type if
    it is known, and whether its value must not be shown, by its types or its key.

    pydantic adds a part for the member of a union, such as ``str`` or the tag of a table.
    """
    key: Key = ()
    table: Any = object
    here: list[Any] = [model]
    is_secret = False
    parts = iter(location)
    for part in parts:
        key = (*key, part)
        members = [member for one in here for member in _members_of(one)]
        tables = [(kind, fields) for kind in members if (fields := _fields_of(kind))]
        table = tables[0][0] if tables else object
        found = [fields[part] for _, fields in tables if part in fields]
        here = found or [inner for kind in members for inner in _inner_of(kind)]
        is_secret = is_secret or not here or any("Secret" in str(one) for one in found)
        if any(len(_members_of(one)) > 1 for one in here):
            next(parts, None)
    is_secret = is_secret or any(isinstance(one, str) and _SECRET.search(one) for one in key)
    return key, table, here[-1:], is_secret


def _inner_of(kind: Any) -> Iterable[Any]:
    """Return the types of what a list, a dictionary or a table with further keys holds."""
    return get_args(kind) or getattr(kind, "_further", ())


def _members_of(annotation: Any) -> list[Any]:
    """Return the members of a union but ``None``, or the type itself."""
    annotation = getattr(annotation, "__value__", annotation)
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _members_of(members[0])
    if origin in (Union, UnionType):
        return [one for m in members if m is not type(None) for one in _members_of(m)]
    return [annotation]


def _fields_of(kind: Any) -> dict[Any, Any]:
    """Return the keys of a table with their annotations, and nothing for another type."""
    kind = get_origin(kind) or kind
    found: dict[Any, Any] = {}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        secrets = getattr(kind, "_secrets", ())
        for name, info in kind.model_fields.items():
            if name in secrets:
                continue  # its value is in the file or variable that another key names
            alias = info.validation_alias or info.alias or name
            found |= dict.fromkeys(getattr(alias, "choices", [alias]), info.annotation)
    return found
