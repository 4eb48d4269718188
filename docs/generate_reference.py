"""The generator of reference.md, and of the keys in configuration.md, from the models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from docs.extra_rules import ELSEWHERE, OTHER_LAYOUTS
from pexpolicy.config.settings import Document
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.directory_information import Directory, DirectoryEntry
from pexpolicy.endpoints.media_location import MediaLocation
from pexpolicy.endpoints.participant_avatar import Avatar, ParticipantAvatarRequest
from pexpolicy.endpoints.participant_properties import AudioMix, ParticipantProperties
from pexpolicy.endpoints.registration_alias import Credentials
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.endpoints.service_rules import CORE_LAYOUTS
from pexpolicy.endpoints.service_types import AutomaticParticipant, OnCompletion, Service, Transfer
from pexpolicy.models import request as read
from pexpolicy.models.attribute_docs import attribute_docs
from pexpolicy.models.contract import alternatives, contract_of
from pexpolicy.models.decision import Model, Redirect, Reject
from pexpolicy.models.request import parameters_of
from pexpolicy.models.rules import Confidence, Privacy, Rule
from pexpolicy.models.validation import wanted

LETTERS: Mapping[str, type[Service]] = dict(zip("CLGTMX", SERVICE_TYPES.values(), strict=False))
OTHERS: tuple[type[Model], ...] = (
    AutomaticParticipant,
    OnCompletion,
    Transfer,
    Redirect,
    Reject,
    ParticipantProperties,
    AudioMix,
    MediaLocation,
    Directory,
    DirectoryEntry,
    Credentials,
)
"""The models in addition to the kinds of service."""
TYPES: Mapping[Any, str] = {
    read.text: "text",
    read.typed: "text",
    read.word: "word",
    read.flag: "true or false",
    read.integer: "whole number",
    read.alias: "`Alias`",
    read.role: "role",
    read.known_role: "role",
    read.header_values: "texts",
    read.by_prefix: "texts by name",
}
"""The type that each parser of a parameter returns."""
ABSENT: Mapping[Any, str] = {
    read.alias: "the empty alias",
    read.header_values: "no values",
    read.by_prefix: "no attributes",
}
"""What a parser returns for absent and malformed values."""

_SENTENCES = re.compile(r"(.*?)(?: Default: (\S+)\.)?").fullmatch
_KEY_ROW = re.compile(r"^(\| `([a-z_.A-Z]+)` \|[^|]*\|[^|]*\| )([^|\n]*) \|$", re.MULTILINE)
INTRODUCTION = """# Reference of the contract

Every parameter that Infinity sends, every field that it accepts, and every rule between them. This
page is generated from the models that check the replies. `pexpolicy config schema requests` prints
the same as JSON Schema.

## Confidence in a statement

| word | meaning | a decision that breaks it |
|---|---|---|
"""
BREACHES = {True: "is refused", False: "is sent, with a warning"}


def page() -> str:
    """Return the whole page."""
    marks = [(mark, _mark_doc(mark), BREACHES[mark.binding]) for mark in Confidence]
    parts = [INTRODUCTION + _rows(marks), *_requests(), *_decisions(), _rules()]
    return "\n".join(parts)


def _mark_doc(mark: Confidence) -> str:
    return {
        Confidence.DOCUMENTED: "read in Pexip's own text",
        Confidence.TRANSCRIBED: "copied from Pexip's text by integrators",
        Confidence.OBSERVED: "seen in the traffic of a Conferencing Node",
        Confidence.REPORTED: "reported by integrators only",
        Confidence.DISPUTED: "the sources disagree",
    }[mark]


def _requests() -> Iterator[str]:
    yield (
        "## Requests\n\nThe attributes of a request are its parameters, typed. An empty parameter "
        "counts as absent, and so do\na malformed number and the word `None`, except in the text "
        "that people type (display name,\ncall tag, search text). All parameters are in "
        "`request.params` as they came, and the path and query, not\ndecoded, in "
        "`request.raw_target`. "
        "*Since* is the first version that is known to send a parameter; blank\nif unknown. "
        "*Absent* is the attribute without the parameter.\n"
    )
    for endpoint in ENDPOINTS.values():
        yield from _request(endpoint)


def _request(endpoint: Endpoint[Any]) -> Iterator[str]:
    request = endpoint.request
    alias = "<alias>" if endpoint.path.endswith("/") else ""
    yield f"### {endpoint.name}\n\n`GET {endpoint.path}{alias}`, since {request.since}\n"
    if alias:
        yield "`request.alias` is the alias in the path, decoded once.\n"
    docs = attribute_docs(request)
    rows = [
        (
            f"`{p.wire}`" + ("*name*" if p.read is read.by_prefix else ""),
            f"`{name}`",
            TYPES[p.read],
            _words(p.values),
            p.since,
            ABSENT.get(p.read, "None"),
            p.mark,
            docs[name].replace("<", "&lt;") + _PRIVACY[p.privacy],
        )
        for name, p in sorted(parameters_of(request).items())
    ]
    heads = (
        "parameter",
        "attribute",
        "type",
        "known values",
        "since",
        "absent",
        "confidence",
        "meaning",
    )
    yield _table(heads, rows)
    if request is ParticipantAvatarRequest:
        names = "height location node_ip pseudo_version_id registered version_id width"
        names = _words(names.split())
        yield f"A request about an entry of the directory has only these: {names}.\n"


def _decisions() -> Iterator[str]:
    yield (
        "## Decisions\n\nOnly fields that were set are sent. *Default* is the value that Infinity "
        "assumes for a field that is not sent.\n\n### Services\n"
    )
    kinds = ", ".join(f"{k} `{m.__name__}` ({_kind(m)})" for k, m in LETTERS.items())
    yield f"{kinds}. Fields in bold are required.\n"
    heads = ("field", "of", "value", "default", "confidence", "meaning")
    yield _table(heads, _service_rows())
    yield _layouts()
    for model in OTHERS:
        yield f"### {model.__name__}\n\n{_first(model)}\n"
        rows = [(_name(model, name), *_field(model, name)) for name in contract_of(model).hints]
        yield _table(heads[:1] + heads[2:], rows)
    yield f"### Avatar\n\n{_first(Avatar)}\n"
    yield "The only value is `image`, as bytes; without a picture, the reply is a 404.\n"


def _service_rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each field, or several where its type differs between kinds of service."""
    for name in dict.fromkeys(n for model in LETTERS.values() for n in contract_of(model).hints):
        kinds: dict[tuple[str, ...], str] = {}
        for letter, model in LETTERS.items():
            if name in contract_of(model).hints:
                row = (_name(model, name), *_field(model, name))
                if name == "service_type":
                    row = (row[0], "set by the kind", *row[2:])
                kinds[row] = kinds.get(row, "") + letter
        for row, letters in kinds.items():
            yield row[0], letters, *row[1:]


def field_docs(model: type) -> dict[str, tuple[str, str]]:
    """Return the meaning and the default of each field of a model."""
    found = {name: _SENTENCES(doc) for name, doc in attribute_docs(model).items()}
    return {name: (parts[1], parts[2] or "") for name, parts in found.items() if parts}


def _field(model: type[Model], name: str) -> tuple[str, ...]:
    contract = contract_of(model)
    meaning, default = field_docs(model)[name]
    field = contract.field(name)
    doc = meaning + _PRIVACY[field.privacy]
    return _value(contract.hints[name]), _code(default), field.mark, doc


_PRIVACY = {
    Privacy.PLAIN: "",
    Privacy.PERSONAL: " Personal.",
    Privacy.SECRET: " Never stored or shown.",
}


def _value(hint: Any) -> str:
    """Describe the values of a field, with words as they are written."""
    words = [get_args(k) for k in alternatives(hint) if get_origin(k) is Literal]
    if len(words) == 1 and len(alternatives(hint)) <= 2:  # noqa: PLR2004 - the words, and perhaps null
        null = " or null" if len(alternatives(hint)) > 1 else ""
        return _words(words[0]) + null
    return wanted(hint)


def _layouts() -> str:
    core, others = _words(sorted(CORE_LAYOUTS)), _words(OTHER_LAYOUTS)
    return (
        f"Layouts on which at least three sources agree: {core}.\n\n"
        f"Layouts that one or two sources list, sent with a warning as any other: {others}.\n"
    )


def _rules() -> str:
    heads = ("evaluated for", "rule", "confidence", "a breach")
    intro = (
        "## Rules\n\nA refused decision cannot be built; a warning is in the audit line, in "
        "`pexpolicy explain`\nand in `pexpolicy check`.\n\n"
    )
    return intro + _table(heads, _rule_rows())


def _rule_rows() -> Iterator[tuple[str, ...]]:
    models: dict[Rule, list[str]] = {}
    for model in (*LETTERS.values(), *OTHERS):
        for rule in contract_of(model).rules:
            models.setdefault(rule, []).append(model.__name__)
    for rule, owners in models.items():
        breach = BREACHES[rule.refused]
        where = f"`{rule.field}` of {', '.join(owners)}"
        yield where, rule.text, rule.mark, breach
    yield from ELSEWHERE


def _name(model: type[Model], name: str) -> str:
    required = contract_of(model).defaults[name] is ...
    return f"**`{name}`**" if required else f"`{name}`"


def _kind(model: type[Service]) -> str:
    return f"`{contract_of(model).constants['service_type']}`"


def _first(model: type[Model]) -> str:
    return re.sub(r"``", "`", (model.__doc__ or "").partition("\n")[0])


def _words(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in words)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n{_rows(rows)}"


def _rows(rows: Iterable[tuple[str, ...]]) -> str:
    return "".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |\n" for row in rows)


def with_meanings(text: str) -> str:
    """Return configuration.md with the meaning of each key from the docstring in the schema."""
    meanings = dict(_meanings(Document))
    return _KEY_ROW.sub(lambda row: f"{row[1]}{meanings.get(row[2], row[3])} |", text)


def _meanings(table: type[BaseModel], before: str = "") -> Iterator[tuple[str, str]]:
    docs = attribute_docs(table)
    for name, field in table.model_fields.items():
        yield before + name, docs.get(name, "")
        if (inner := table_in(field.annotation)) is not None:
            named = "dict[" in str(field.annotation)
            yield from _meanings(inner, f"{before}{name}.{'NAME.' if named else ''}")


def table_in(annotation: Any) -> type[BaseModel] | None:
    """Return the table in the type of a key, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (table_in(part) for part in getattr(annotation, "__args__", ()))
    return next((table for table in inner if table is not None), None)


if __name__ == "__main__":
    here = Path(__file__).parent
    (here / "reference.md").write_text(page(), encoding="utf-8")
    keys = here / "configuration.md"
    keys.write_text(with_meanings(keys.read_text(encoding="utf-8")), encoding="utf-8")
