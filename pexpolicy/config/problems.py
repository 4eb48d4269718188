"""Problems and warnings of a configuration, with messages for an administrator."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args, get_origin

import pydantic
from pydantic import BaseModel

from pexpolicy.config.error_location import locate, names_of
from pexpolicy.config.value_messages import form, message
from pexpolicy.models.attribute_docs import attribute_docs
from pexpolicy.text import brief, did_you_mean, remark

Key = tuple[str | int, ...]


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


def problems_of(error: pydantic.ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Convert the errors of pydantic to problems."""
    return [_problem(dict(item), model) for item in error.errors(include_url=False)]


def _problem(item: Mapping[str, Any], model: type[BaseModel]) -> Problem:
    key, annotations = locate(tuple(item["loc"]), model)
    if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        guess = _instead(key, model)
        return Problem(key, f"unknown key{guess or _place_of(key, item['input'], model)}")
    if item["type"] in ("missing", "missing_argument"):
        return Problem(key, f"is missing{_choice(key, model) or _meaning(key, model)}")
    if item["type"] in _TAGS and (tag := re.fullmatch(r"'(.+)'", item["ctx"]["discriminator"])):
        return _wrong_tag((*key, tag[1]), item)
    if key and key[-1] == "[key]":
        return _wrong_name(key[:-1], item)
    if item["type"] in _NO_TABLE:
        is_hidden = isinstance(item["input"], list) or _is_secret(key, annotations)
        return _no_table(key, item["input"], model, hidden=is_hidden)
    text = message(item)
    hidden = ("value_error", "string_too_short")
    shown = item["type"] not in hidden and not isinstance(item["input"], Mapping | list)
    if shown and not _is_secret(key, annotations) and not _may_hold_secret(key, item["input"]):
        text += f", not {brief(item['input'])}"
        if item["type"] == "literal_error" and isinstance(item["input"], str):
            text += did_you_mean(item["input"].strip(), _expected(item))
    advice = _off(key, item) or form(item["type"], item["input"]) or _headers(key, item, model)
    return Problem(key, text + advice + _in_seconds(key, item))


def _wrong_tag(key: Key, item: Mapping[str, Any]) -> Problem:
    """Return the problem of the key that says which kind a table is."""
    if not (known := item["ctx"].get("expected_tags")):
        return Problem(key, "is missing")
    guess = did_you_mean(str(item["ctx"]["tag"]), _expected(item))
    return Problem(key, f"is none of {known}{guess}")


def _wrong_name(key: Key, item: Mapping[str, Any]) -> Problem:
    """Return the problem of a key of a table whose keys are limited."""
    if not (known := _expected(item)):
        return Problem(key, message(item))
    guess = did_you_mean(str(key[-1]), known) or f"; there are {', '.join(known)}"
    return Problem(key, f"unknown name{guess}")


def _place_of(key: Key, written: Any, model: type[BaseModel]) -> str:
    """Return where a table or key without a similar name may belong, after a semicolon."""
    if len(key) == 1 and _is_whole(model):
        is_table = isinstance(written, Mapping)
        return f"; if it is a plugin, write [plugins.{dotted_key(key)}]" if is_table else ""
    if len(key) == 1 and key[0] in _PLUGIN_KEYS:
        return "; it is a key of [plugins.NAME] itself, and not of settings"
    if _is_whole(model) and key[-1] in model.model_fields and isinstance(written, Mapping):
        return f"; it is a table at the top: write [{dotted_key((key[-1], *_only_path(written)))}]"
    named = [n for n in _known_keys(model, key[:-1]) if _is_dict(model, (*key[:-1], n))]
    if named and isinstance(written, Mapping):
        return f"; did you mean [….{dotted_key((*key[:-1], named[0], key[-1]))}]?"
    if key[:1] == ("plugins",) and len(key) == 3:  # noqa: PLR2004 - the table, its name, the key
        return f"; keys of the plugin itself belong under [{dotted_key(key[:2])}.settings]"
    return ""


def _only_path(table: Any) -> Key:
    """Return the keys on the way to the first table that has values, or several tables."""
    if isinstance(table, Mapping) and len(table) == 1:
        ((name, inner),) = table.items()
        return (name, *_only_path(inner)) if isinstance(inner, Mapping) else ()
    return ()


def _no_table(key: Key, written: Any, model: type[BaseModel], *, hidden: bool) -> Problem:
    if len(key) > 1 and isinstance(key[-1], int):
        return Problem(key, f"must be a table: write [[{dotted_key(key[:-1])}]] for each")
    if len(key) > 1 and _is_dict(model, key[:-1]) and key[-1] in _known_keys(model, key[:-1]):
        return Problem(key, f"belongs below a table with a name: [{dotted_key(key[:-1])}.NAME]")
    text = f"must be a table, as in {dotted_key(key[-1:])} = {_example(key, written, model)}"
    if key == ("plugins", "order"):
        text = "is no plugin: plugins are asked in the order of their priority, the lowest first"
    elif isinstance(written, list):
        text = f"must be one table: write [{dotted_key(key)}], not [[{dotted_key(key)}]]"
    return Problem(key, text if hidden else f"{text}, not {brief(written)}")


def _example(key: Key, written: Any, model: type[BaseModel]) -> str:
    """Return a table to write in place of a value."""
    fields = getattr(_model_at(model, key), "model_fields", {})
    for name, info in fields.items():
        if isinstance(written, str) and written in _words_in(info.annotation):
            return f'{{ {name} = "{written}" }}'
    has_defaults = fields and not any(info.is_required() for info in fields.values())
    return "{}" if written is True and has_defaults else "{ … }"


def _off(key: Key, item: Mapping[str, Any]) -> str:
    """Return how to switch the admin listener off, after a semicolon, or nothing."""
    is_off = str(item["input"]).lower() in ("false", "off", "no", "none")
    return "; write enabled = false" if is_off and key == ("admin", "port") else ""


def _in_seconds(key: Key, item: Mapping[str, Any]) -> str:
    """Return how to write a time that looks like milliseconds, after a semicolon, or nothing."""
    written = item["input"]
    if item["type"] != "less_than_equal" or key[-1:] not in _SECONDS:
        return ""
    if not isinstance(written, int | float) or written < MILLISECONDS:
        return ""
    return f"; it is in seconds: write {written / 1000:g} for {written:g} ms"


def _headers(key: Key, item: Mapping[str, Any], model: type[BaseModel]) -> str:
    """Return the header of each table where its brackets are wrong, or nothing."""
    place = dotted_key(key) if _is_whole(model) else f"….{dotted_key(key)}"
    if (item["type"], type(item["input"])) == ("dict_type", list):
        return f": write [{place}.NAME] for each, not [[{place}]]"
    if (item["type"], type(item["input"])) == ("list_type", dict):
        return f": write [[{place}]] for each, with two brackets"
    return ""


_PLUGIN_KEYS = frozenset(
    ("priority", "timeout", "on_error", "mode", "isolation", "breaker", "log_level", "threads")
)
_SECONDS = (("timeout",), ("budget",))
MILLISECONDS = 50
"""Numbers from here on look like milliseconds where seconds are meant."""
_MAX_MEANING = 120
"""Characters of a sentence that explains a key."""
_TAGS = ("union_tag_invalid", "union_tag_not_found")
"""Errors about the key of a table that says which kind it is."""
_NO_TABLE = ("model_type", "model_attributes_type", "dataclass_type")
_SECRET = re.compile(r"token|secret|passw|passcode|credential|pin$|^key$|api_?key", re.IGNORECASE)
_USER_OR_URL = re.compile(r"^user(name)?$|endpoint$|url$")
"""Keys whose malformed value may hold a password or a query, as in ``user:password``."""


def may_be_secret(key: Key) -> bool:
    """Return whether the name of a key, or of a table around it, is that of a secret."""
    return any(isinstance(part, str) and _SECRET.search(part) for part in key)


def _is_secret(key: Key, annotations: Iterable[Any]) -> bool:
    """Return whether a value must not be shown, by the types of it and of the tables around it, or
    by the name of its key.
    """
    return may_be_secret(key) or any(
        kind in str(found) for found in annotations for kind in ("SecretStr", "SecretBytes")
    )


def _may_hold_secret(key: Key, value: Any) -> bool:
    is_named_so = bool(key) and _USER_OR_URL.search(str(key[-1])) is not None
    return is_named_so and re.search("[:?@]", str(value)) is not None


def _choice(key: Key, model: type[BaseModel]) -> str:
    """Return the literal values of a missing key, after a semicolon, if it has any."""
    fields = getattr(_model_at(model, key[:-1]), "model_fields", {})
    info = fields.get(key[-1])
    words = _words_in(info.annotation) if info is not None else []
    return f"; write one of {', '.join(map(repr, words))}" if words else ""


def _meaning(key: Key, model: type[BaseModel]) -> str:
    """Return the first sentence about a missing key, after a colon, if it is documented."""
    table = _model_at(model, key[:-1])
    if table is None:
        return ""
    try:
        text = attribute_docs(table).get(str(key[-1]), "")
    except (OSError, TypeError, SyntaxError, ValueError):  # the source is not there
        return ""
    first = re.split(r"[.;](?:\s|\Z)", text.replace("`", ""), maxsplit=1)[0]
    begin = first[:1] if first[1:2].isupper() else first[:1].lower()
    return f": {begin}{first[1:]}" if 0 < len(first) <= _MAX_MEANING else ""


def _words_in(annotation: Any) -> list[str]:
    """Return the words of the literal in an annotation."""
    if get_origin(annotation) is Literal:
        return [word for word in get_args(annotation) if isinstance(word, str)]
    return [word for part in get_args(annotation) for word in _words_in(part)]


def _instead(key: Key, model: type[BaseModel]) -> str:
    """Return what to write instead of a key that does not exist, after a semicolon, or nothing."""
    name, place = str(key[-1]), key[:-1]
    if hint := remark(key, whole=_is_whole(model)):
        return f"; {hint}"
    known = _known_keys(model, place)
    if guess := did_you_mean(name, known):
        return guess
    if place and "result" in known:
        return f"; write a field of the answer in {dotted_key(place[-1:])}.result"
    for inner, path in _below(_model_at(model, place), 2):
        if name in inner.model_fields:
            inside = dotted_key((*place, *path))
            return f"; it is a key of {inside}: write {dotted_key((*path, name))}"
    return ""


def _below(
    model: type[BaseModel] | None, depth: int, path: Key = ()
) -> Iterator[tuple[type[BaseModel], Key]]:
    """Yield the tables below a table with their places; ``NAME`` stands for any name."""
    for name, info in getattr(model, "model_fields", {}).items():
        named = "dict[" in str(info.annotation)
        inside = (*path, name, "NAME") if named else (*path, name)
        for inner in _models_in(info.annotation):
            yield inner, inside
            if depth > 1:
                yield from _below(inner, depth - 1, inside)


def _is_whole(model: type[BaseModel]) -> bool:
    """Return whether a model is that of a whole configuration file."""
    return "plugin_dirs" in model.model_fields


def _expected(item: Mapping[str, Any]) -> list[str]:
    context = item.get("ctx", {})
    return re.findall(r"'([^']*)'", str(context.get("expected", context.get("expected_tags", ""))))


def _known_keys(model: type[BaseModel], key: Key) -> list[str]:
    """Return the keys that the table at this place may hold."""
    fields = getattr(_model_at(model, key), "model_fields", {})
    return [names_of(name, field)[0] for name, field in fields.items()]


def _is_dict(model: type[BaseModel], key: Key) -> bool:
    """Return whether a key holds tables with names of their own."""
    info = getattr(_model_at(model, key[:-1]), "model_fields", {}).get(key[-1])
    return info is not None and get_origin(info.annotation) is dict


def _model_at(model: type[BaseModel], key: Key) -> type[BaseModel] | None:
    """Return the model of the table at this place."""
    table: Any = model
    for part in key:
        fields = getattr(table, "model_fields", None)
        if fields is None or part not in fields:
            continue
        table = next((t for t in _models_in(fields[part].annotation)), None)
    return table  # type: ignore[no-any-return]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


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


class PluginBuildError(Exception):
    """A plugin cannot be built; ``problems`` have keys relative to the plugin's table."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))

    @classmethod
    def because(cls, text: str) -> Self:
        """Return an error with one reason that concerns no particular key."""
        return cls([Problem((), text)])
