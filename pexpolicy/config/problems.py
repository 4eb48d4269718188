"""Problems and warnings of a configuration, with messages for an administrator."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from itertools import takewhile
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

import pydantic
from pydantic import AliasChoices, BaseModel
from typing_extensions import is_typeddict

from pexpolicy.config.schema.plugins import PluginTable
from pexpolicy.models.attribute_docs import attribute_docs
from pexpolicy.text import brief, did_you_mean, suggest

Key = tuple[str | int, ...]
REMARKS: Mapping[Key, str] = {
    ("metrics",): "metrics are on by default, at the port of [admin]",
    ("logging",): "decisions are logged by [audit], all else by [log]",
    ("enabled",): "leave out the whole table, or write # before its lines",
    ("plugins", "order"): "plugins are asked in the order of their priority, the lowest first",
    ("access", "deny"): "write those who may connect in networks",
    ("auth", "type"): "it is always Basic; leave the key out",
    ("auth", "users"): "write [[auth.credentials]] for each",
    ("audit", "format"): "lines are always JSON; leave the key out",
    ("infinity", "host"): "Infinity is never asked: [infinity] lists names of its objects",
    ("log", "file"): "lines go to standard error, which systemd and Docker keep",
}
"""By the end of a key that does not exist: what to write instead. Ten at most; a plugin has its own
in ``PluginSettings.key_remarks``.
"""
MAX_PLACES = 3
"""Places that a warning about several names."""
_MIN_MEANING, _MAX_MEANING = 6, 120
"""Characters of a sentence that explains a key."""
_SECRET = re.compile(r"token|secret|passw|passcode|credential|pin$|^key$|api_?key", re.IGNORECASE)
_USER_OR_URL = re.compile(r"^user(name)?$|endpoint$|url$")
"""Keys whose malformed value may hold a password or a query, as in ``user:password``."""
_PLAIN_WORDS = {
    "a valid dictionary": "a table",
    "an object": "a table",
    "a valid array": "a list",
    "a valid list": "a list",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid boolean": "true or false",
}
"""Words of pydantic, and what an administrator calls the same."""


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


class PluginBuildError(Exception):
    """A plugin cannot be built; ``problems`` have keys relative to the plugin's table."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))

    @classmethod
    def because(cls, text: str) -> Self:
        """Return an error with one reason that concerns no particular key."""
        return cls([Problem((), text)])


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


def grouped(warnings: Iterable[ConfigWarning]) -> list[ConfigWarning]:
    """Return one warning for those with the same text in one plugin or table, with their count and
    first places.
    """
    found: dict[tuple[str, Key], list[Key]] = {}
    for one in warnings:
        found.setdefault((one.text, one.key[:3]), []).append(one.key)
    return [_of_several(text, keys) for (text, _), keys in found.items()]


def _of_several(text: str, keys: list[Key]) -> ConfigWarning:
    if len(keys) == 1:
        return ConfigWarning(keys[0], text)
    alike = takewhile(lambda parts: len(set(parts)) == 1, zip(*keys, strict=False))
    common = tuple(parts[0] for parts in alike)
    places = [dotted_key(key[len(common) :]).replace('"', "") for key in keys[:MAX_PLACES]]
    more = ", …" if len(keys) > MAX_PLACES else ""
    return ConfigWarning(common, f"{len(keys)} times, at {', '.join(places)}{more}: {text}")


def may_be_secret(key: Key) -> bool:
    """Return whether the name of a key, or of a table around it, is that of a secret."""
    return any(isinstance(part, str) and _SECRET.search(part) for part in key)


def problems_of(error: pydantic.ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Convert the errors of pydantic to problems."""
    return [_problem(dict(item), model) for item in error.errors(include_url=False)]


def _problem(item: Mapping[str, Any], model: type[BaseModel]) -> Problem:
    place = _locate(tuple(item["loc"]), model)
    key, kind, context = place.key, item["type"], item.get("ctx", {})
    words = re.findall(r"'([^']*)'", str(context.get("expected", context.get("expected_tags", ""))))
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return Problem(key, f"unknown key{_instead(place, model)}")
    if kind.startswith("union_tag"):
        key = (*key, context["discriminator"].strip("'"))
        tag = suggest(str(context.get("tag")), words)
        return Problem(key, f"is none of these{tag}" if words else "is missing")
    if kind in ("missing", "missing_argument"):
        words = _words_in(place.annotations[-1]) if place.annotations else []
        choice = f"; write one of {', '.join(map(repr, words))}" if words else ""
        return Problem(key, f"is missing{choice or place.meaning(': ')}")
    if key[-1:] == ("[key]",):
        text = f"unknown name{suggest(str(key[-2]), words)}" if words else _message(item)
        return Problem(key[:-1], text)
    text, written = _message(item), item["input"]
    if kind in ("value_error", "assertion_error"):
        return Problem(key, text)
    hides = isinstance(written, Mapping | list) or kind == "string_too_short"
    if not hides and not place.may_hold_secret(written):
        text += f", not {brief(written)}"
        text += did_you_mean(str(written), words) if kind == "literal_error" else ""
    form = f"; {REMARKS[key]}" if key in REMARKS else _form(kind, written, key, _is_whole(model))
    return Problem(key, text + form + place.meaning(" (", ")"))


def _form(kind: str, written: Any, key: Key, is_whole: bool) -> str:  # noqa: FBT001, PLR0911 - private; one for each
    """Return in which form to write a value of another type."""
    at = dotted_key(tuple(part for part in key if isinstance(part, str)))
    at = at if is_whole else f"….{at}"
    match kind, written:
        case "list_type", dict():
            return f": write [[{at}]] for each, with two brackets"
        case "list_type", _:
            return '; write it in square brackets, as in ["first", "second"]'
        case "dict_type", list():
            return f": write [{at}.NAME] for each, not [[{at}]]"
        case "string_type", list():
            return "; write one text, without brackets"
        case "string_type", _:
            return "; write it in quotes"
        case "bool_type", str():
            return "; write true or false without quotes"
        case "int_type" | "float_type", str():
            return "; write a number without quotes and without a unit"
        case "time_delta_type" | "time_delta_parsing", _:
            return '; write text, as in "PT90S" or "00:01:30"'
        case "model_type" | "model_attributes_type" | "dataclass_type", _:
            is_item = bool(key) and isinstance(key[-1], int)
            return (
                f": write [[{at}]] for each" if is_item else f": write [{at}], and its keys below"
            )
        case _:
            return ""


def _message(item: Mapping[str, Any]) -> str:
    text = re.sub(
        r"^(Value error, |Input |String |List )| or (instance|an object) .*", "", item["msg"]
    )
    for name, plain in _PLAIN_WORDS.items():
        text = text.replace(name, plain)
    return text[:1].lower() + text[1:]


def _instead(place: _Place, model: type[BaseModel]) -> str:
    """Return what to write instead of a key that does not exist, after a semicolon."""
    names = tuple(part for part in place.key if isinstance(part, str))
    if remark := getattr(place.table, "key_remarks", {}).get(names[-1]):
        return f"; {remark}"
    for end in (names[-2:], names[-1:]):
        if end in REMARKS:
            return f"; {REMARKS[end]}"
    known = [str(name) for name, _ in _fields_of(place.table)]
    guess = did_you_mean(names[-1], known)
    return guess or _other_place(place, names[-1], known, model) + suggest(names[-1], known)


def _other_place(place: _Place, name: str, known: list[str], model: type[BaseModel]) -> str:
    """Return where a key belongs, after a semicolon, or nothing."""
    around, is_whole = dotted_key(place.key[:-1]), _is_whole(model)
    secrets = [one for one in (f"{name}_env", f"{name}_file") if one in known]
    inside = [dotted_key(path) for path, inner in _below(place.table) if name in inner.model_fields]
    top = name if name == "plugin_dirs" else f"[{name}]"
    hints: dict[str, object] = {
        f"a secret is never in this file: write {' or '.join(secrets)}": secrets,
        f"if it is a plugin, write [plugins.{dotted_key((name,))}]": is_whole and not around,
        f"it belongs at the top of the file, as {top}": is_whole and name in model.model_fields,
        f"keys of the plugin itself belong under [{around}.settings]": place.table is PluginTable,
        f"write a field of the answer in {around}.result": around and "result" in known,
        f"it is a key of {' '.join(inside)}: write {' '.join(inside)}.{name}": len(inside) == 1,
        "it is a key of [plugins.NAME] itself": not is_whole and name in PluginTable.model_fields,
    }
    return next((f"; {hint}" for hint, applies in hints.items() if applies), "")


@dataclass(frozen=True, slots=True)
class _Place:
    """The place of an error: its key, the table that holds it, the types on the way to it."""

    key: Key
    table: Any
    annotations: list[Any]

    def meaning(self, before: str, after: str = "") -> str:
        """Return the first sentence about the key, if it is documented."""
        try:
            text = attribute_docs(self.table).get(str(self.key[-1]), "") if self.table else ""
        except (OSError, TypeError, SyntaxError, ValueError):  # the source is not there
            return ""
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "")
        first = re.split(r"[.;](?:\s|\Z)", plain, maxsplit=1)[0]
        begin = first[:1] if first[1:2].isupper() else first[:1].lower()
        return (
            f"{before}{begin}{first[1:]}{after}" if _MIN_MEANING < len(first) < _MAX_MEANING else ""
        )

    def may_hold_secret(self, value: Any) -> bool:
        """Return whether a value must not be shown, by the types of it and of the tables around
        it, by the name of its key, or by its form.
        """
        named = any("Secret" in str(one) for one in self.annotations) or may_be_secret(self.key)
        may_hold = bool(self.key) and _USER_OR_URL.search(str(self.key[-1])) is not None
        return named or (may_hold and re.search("[:?@]", str(value)) is not None)


def _locate(location: Key, model: type[BaseModel]) -> _Place:
    """Return the place of an error of pydantic, with the key as it is written.

    pydantic adds a part for the member of a union, such as ``str`` or the tag of a table.
    """
    key: list[str | int] = []
    passed: list[Any] = []
    table: Any = None
    here: list[Any] = [model]
    is_member = False
    for part in location:
        if is_member:
            is_member = False
            continue
        key.append(part)
        members = [member for found in here for member in _members_of(found)]
        table = next((kind for kind in members if dict(_fields_of(kind))), None)
        fields = [hint for kind in members for name, hint in _fields_of(kind, part) if name == part]
        here = fields or [inner for kind in members for inner in get_args(kind)]
        passed += fields
        is_member = any(len(list(_members_of(found))) > 1 for found in here)
    return _Place(tuple(key), table, passed)


def _members_of(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union but ``None``, or the type itself."""
    annotation = getattr(annotation, "__value__", annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members_of(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for member in get_args(annotation):
            if member is not type(None):
                yield from _members_of(member)
    else:
        yield annotation


def _fields_of(kind: Any, named: str | int = "") -> Iterator[tuple[str | int, Any]]:
    """Yield the keys of a table with their annotations, also ``named`` for one with an alias."""
    kind = get_origin(kind) or kind
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, info in kind.model_fields.items():
            alias = info.validation_alias or info.alias
            choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
            names = [one for one in choices if isinstance(one, str)] or [name]
            yield (named if named in (name, *names) else names[0]), info.annotation
    elif is_dataclass(kind) or is_typeddict(kind):
        try:
            yield from get_type_hints(kind, include_extras=True).items()
        except (NameError, TypeError):  # a type that only type checkers know
            return


def _below(table: Any) -> Iterator[tuple[Key, type[BaseModel]]]:
    """Yield the tables in a table with their places; ``NAME`` stands for any name."""
    for name, hint in _fields_of(table):
        for member in _members_of(hint):
            is_named = get_origin(member) is dict
            for model in _members_of(get_args(member)[1] if is_named else member):
                if isinstance(model, type) and issubclass(model, BaseModel):
                    yield ((name, "NAME") if is_named else (name,)), model


def _words_in(annotation: Any) -> list[str]:
    """Return the words of the literal in an annotation."""
    if get_origin(annotation) is Literal:
        return [word for word in get_args(annotation) if isinstance(word, str)]
    return [word for part in get_args(annotation) for word in _words_in(part)]


def _is_whole(model: type[BaseModel]) -> bool:
    """Return whether a model is that of a whole configuration file."""
    return "plugin_dirs" in model.model_fields
