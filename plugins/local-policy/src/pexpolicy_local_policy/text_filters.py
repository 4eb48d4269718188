"""Filters of Infinity on text and objects: ``pex_base64`` to ``pex_urldefense_decode``.

Where Pexip's documentation leaves a detail open, the comment says which form was chosen.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qs, quote, unquote, urlsplit
from uuid import UUID

from jinja2 import Undefined

from pexpolicy_local_policy.unknown_value import UnknownValue

_SAFE_LINK = re.compile(
    r"https?://[\w.-]*safelinks\.protection\.outlook\.com/[^\s\"'<>]*", re.IGNORECASE
)
_PROOFPOINT = re.compile(
    r"https?://urldefense(?:\.proofpoint)?\.(?:com|us)/v[123]/[^\s\"'<>]*", re.IGNORECASE
)
_RUNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_UUID_BYTES = 16


class PolicyNotAppliedError(Exception):
    """``pex_require_min_length`` found a value that is too short."""


class ScriptValueError(Exception):
    """A filter or function cannot use a value."""


def _base64(value: object) -> str:
    return base64.b64encode(str(value).encode()).decode()


def _clean_phone_number(value: object) -> str:
    return re.sub("[^+0-9]", "", str(value))


def pex_hash(value: object) -> str:
    """Return the SHA-256 of a text as a decimal number, without leading zeros."""
    return str(int.from_bytes(hashlib.sha256(str(value).encode()).digest(), "big"))


def _head(value: object, length: int) -> str:
    return str(value)[: max(length, 0)]


def _tail(value: object, length: int) -> str:
    return str(value)[-length:] if length > 0 else ""


def _md5(value: object) -> str:
    return hashlib.md5(str(value).encode(), usedforsecurity=False).hexdigest()


def _regex_replace(value: object, find: str, replace: str) -> str:
    try:
        return re.sub(str(find), str(replace), str(value))
    except (re.error, IndexError) as error:
        raise ScriptValueError(f"pex_regex_replace: {find!r} cannot be used: {error}") from None


def _require_min_length(value: object, length: int) -> str:
    text = str(value)
    if len(text) < length:
        raise PolicyNotAppliedError(f"{len(text)} characters, and {length} are required")
    return text


def _reverse(value: object) -> str:
    return str(value)[::-1]


def _strlen(value: object) -> int:
    return len(str(value))


def _to_json(value: object) -> str:
    if isinstance(value, Undefined):
        raise ScriptValueError(f"pex_to_json: {_name_of(value)} is undefined")
    try:
        return json.dumps(value, default=_without_json)
    except (TypeError, ValueError, RecursionError) as error:
        raise ScriptValueError(f"pex_to_json: {error}") from None


def _without_json(value: object) -> NoReturn:
    if isinstance(value, UnknownValue):  # inside of a list or an object
        value.touch()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _to_uuid(value: object) -> str:
    try:
        found = base64.b64decode(str(value), validate=True)
    except ValueError:
        raise ScriptValueError("pex_to_uuid: the value is not base64") from None
    if len(found) != _UUID_BYTES:
        raise ScriptValueError(f"pex_to_uuid: {len(found)} bytes, and a UUID has {_UUID_BYTES}")
    # The order of Active Directory, whose objectGUID is what the filter is for.
    return str(UUID(bytes_le=found))


def _update(value: object, changes: Mapping[str, Any]) -> dict[str, Any]:
    for given in (value, changes):
        if isinstance(given, UnknownValue):
            given.touch()
    if not isinstance(value, Mapping) or not isinstance(changes, Mapping):
        other = value if not isinstance(value, Mapping) else changes
        name = _name_of(other) if isinstance(other, Undefined) else type(other).__name__
        raise ScriptValueError(f"pex_update: needs two objects, and {name} is none")
    return {**value, **changes}


def _url_encode(value: object) -> str:
    return quote(str(value), safe="")


def _url_decode(value: object) -> str:
    return unquote(str(value))


def _safelinks_decode(value: object) -> str:
    return _SAFE_LINK.sub(lambda found: _query_value(found[0], "url"), str(value))


def _urldefense_decode(value: object) -> str:
    return _PROOFPOINT.sub(lambda found: _proofpoint_target(found[0]), str(value))


def _proofpoint_target(link: str) -> str:
    version = urlsplit(link).path[1:3]
    if version == "v3":
        return _proofpoint_v3(link)
    target = _query_value(link, "u", raw=version == "v2")
    if version == "v2" and target != link:
        target = unquote(target.translate(str.maketrans("-_", "%/")))
    return target


def _proofpoint_v3(link: str) -> str:
    """Return the target of ``/v3/__URL__;BASE64!!``: each ``*`` stands for replaced bytes."""
    found = re.match(r"https?://[^/]+/v3/__(.+?)__;(.*?)!", link)
    if found is None:
        return link
    target, encoded = found[1], found[2]
    try:
        kept = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return link
    used = 0

    def replaced(star: re.Match[str]) -> str:
        nonlocal used
        length = _RUNS.index(star[1]) + 2 if star[1] else 1
        part, used = kept[used : used + length], used + length
        return part

    return re.sub(r"\*(?:\*([A-Za-z0-9_-]))?", replaced, target)


def _query_value(link: str, name: str, *, raw: bool = False) -> str:
    query = urlsplit(link).query
    if raw:
        pairs = (pair.partition("=") for pair in query.split("&"))
        return next((value for key, _, value in pairs if key == name), link)
    return parse_qs(query).get(name, [link])[0]


def _name_of(value: Undefined) -> str:
    return str(value._undefined_name or "a value")  # noqa: SLF001 - its only public form is an error


TEXT_FILTERS: Mapping[str, Callable[..., Any]] = {
    "pex_base64": _base64,
    "pex_clean_phone_number": _clean_phone_number,
    "pex_hash": pex_hash,
    "pex_head": _head,
    "pex_md5": _md5,
    "pex_regex_replace": _regex_replace,
    "pex_require_min_length": _require_min_length,
    "pex_reverse": _reverse,
    "pex_safelinks_decode": _safelinks_decode,
    "pex_strlen": _strlen,
    "pex_tail": _tail,
    "pex_to_json": _to_json,
    "pex_to_uuid": _to_uuid,
    "pex_update": _update,
    "pex_url_decode": _url_decode,
    "pex_url_encode": _url_encode,
    "pex_urldefense_decode": _urldefense_decode,
}
"""The 17 names that are filters only."""
