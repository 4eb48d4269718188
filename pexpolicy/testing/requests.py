"""Requests as Infinity sends them, made from a template and the fields of a test."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, overload

from multidict import MultiDict, MultiDictProxy
from yarl import URL

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.directory_information import DirectoryInformationRequest
from pexpolicy.endpoints.media_location import MediaLocationRequest
from pexpolicy.endpoints.participant_avatar import ParticipantAvatarRequest
from pexpolicy.endpoints.participant_properties import ParticipantPropertiesRequest
from pexpolicy.endpoints.registration_alias import RegistrationAliasRequest
from pexpolicy.endpoints.service_configuration import ServiceConfigurationRequest
from pexpolicy.explain.request_forms import RecordedRequest, read_request, target_of
from pexpolicy.models.alias import Alias
from pexpolicy.models.request import Request, alias_of, by_prefix, parameters_of, set_origin
from pexpolicy.text import did_you_mean, suggest

_FILE = Path(__file__).with_name("request_templates.toml")


class RequestError(ValueError):
    """A request that cannot be made; ``key`` is the faulty endpoint, shape or field."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(f"{key}: {text}")
        self.key = key
        self.text = text


def shape_names_of(endpoint: str) -> tuple[str, ...]:
    """Return the names of all shapes of an endpoint, the default first."""
    return tuple(_shapes()[endpoint])


@functools.cache
def _shapes() -> Mapping[str, Mapping[str, RecordedRequest]]:
    """Return each shape by endpoint and name."""
    shapes: dict[str, dict[str, RecordedRequest]] = {}
    for table in tomllib.loads(_FILE.read_text(encoding="utf-8"))["shape"]:
        shapes.setdefault(table["endpoint"], {})[table["name"]] = read_request(table["url"])
    return shapes


class Absent(Enum):
    """The type of ``ABSENT``."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT
"""Value of a parameter that is not sent at all; ``None`` is sent as an empty text."""

Texts = tuple[str, ...]


# fmt: off
# ruff: noqa: E501 - a table: the class of the request by the name of the endpoint
@overload
def make_request(endpoint: Literal["service_configuration"], /, **options: Any) -> ServiceConfigurationRequest: ...
@overload
def make_request(endpoint: Literal["participant_properties"], /, **options: Any) -> ParticipantPropertiesRequest: ...
@overload
def make_request(endpoint: Literal["media_location"], /, **options: Any) -> MediaLocationRequest: ...
@overload
def make_request(endpoint: Literal["participant_avatar"], /, **options: Any) -> ParticipantAvatarRequest: ...
@overload
def make_request(endpoint: Literal["directory_information"], /, **options: Any) -> DirectoryInformationRequest: ...
@overload
def make_request(endpoint: Literal["registration_alias"], /, **options: Any) -> RegistrationAliasRequest: ...
@overload
def make_request(endpoint: str, /, **options: Any) -> Request: ...
# fmt: on
def make_request(
    endpoint: str,
    /,
    *,
    shape: str | None = None,
    extra: Mapping[str, object] = {},
    peer: str | None = None,
    environment: str | None = None,
    **fields: object,
) -> Request:
    """Make a request as a node sends it, with these fields instead of the default values.

    ``shape`` is the kind of call, such as ``web`` or ``sip``. Fields have the names of the
    request's attributes or those on the wire. ``None`` is sent as an empty text, which is how
    Infinity writes unset values, ``True`` and ``False`` as these words, a list as a repeated
    parameter; ``ABSENT`` leaves the parameter out. ``alias`` is the alias in the path of the
    requests that have one, ``peer`` the address of the client and ``environment`` the platform that
    asks; ``extra`` has parameters that pexpolicy does not know. Raises
    ``RequestError`` for a name that does not exist and for a value that Infinity could not send::

        make_request("service_configuration", local_alias="meet.alice", registered=True)
        make_request("participant_properties", shape="sso", idp_attributes={"groups": ["a", "b"]})
        make_request("registration_alias", alias="sip:alice@example.com")
    """
    return composed(endpoint, shape, fields, extra, (peer, environment))


def composed(
    endpoint: str,
    shape: str | None,
    fields: Mapping[str, object],
    extra: Mapping[str, object] = {},
    origin: tuple[str | None, ...] = (),
) -> Request:
    """Make a request from a mapping of fields; otherwise like ``make_request``. ``origin`` has its
    peer and environment.
    """
    if endpoint not in ENDPOINTS:
        text = f"there is no endpoint {endpoint!r}{suggest(endpoint, ENDPOINTS)}"
        raise RequestError("endpoint", text)
    shapes = _shapes()[endpoint]
    if shape is not None and shape not in shapes:
        text = f"{endpoint} has no shape {shape!r}{suggest(shape, shapes)}"
        raise RequestError("shape", text)
    usual = shapes[next(iter(shapes)) if shape is None else shape]
    alias, params = usual.alias, {name: tuple(usual.params.getall(name)) for name in usual.params}
    for name, value in fields.items():
        if name == "alias" and _has_alias(endpoint):
            if not isinstance(value, str) or not value:
                raise RequestError("alias", "the alias in the path is a text, and never empty")
            alias = _text(name, value)
        else:
            _replace(params, endpoint, name, value)
    params.update({name: _texts(name, value) for name, value in extra.items()})
    pairs = [(name, text) for name, texts in params.items() for text in texts]
    request: Request = ENDPOINTS[endpoint].parse(MultiDictProxy(MultiDict(pairs)), alias)
    set_origin(request, str(url_of(request)), *origin)
    return request


def endpoint_of(request: Request) -> str:
    """Return the name of a request's endpoint; raises ``TypeError`` for anything else."""
    for name, endpoint in ENDPOINTS.items():
        if type(request) is endpoint.request:
            return name
    raise TypeError(f"{type(request).__name__} is not a request: make one with make_request(…)")


def url_of(request: Request, base_path: str = "") -> URL:
    """Return the path and query of a request, escaped as Infinity does.

    ``base_path`` is that of the configuration. Raises ``TypeError`` for anything but a request::

        reply = await client.get(url_of(make_request("media_location")))
    """
    target = target_of(endpoint_of(request), alias_of(request), request.params)
    return URL(base_path + target, encoded=True)


def _has_alias(endpoint: str) -> bool:
    return ENDPOINTS[endpoint].path.endswith("/")


def _replace(params: dict[str, Texts], endpoint: str, name: str, value: object) -> None:
    """Set a parameter, or all whose names begin with a prefix; raise ``RequestError``."""
    known = parameters_of(ENDPOINTS[endpoint].request)
    wire = known[name].wire if name in known else name
    prefixes = tuple(one.wire for one in known.values() if one.read is by_prefix)
    if wire in prefixes:
        for key in [key for key in params if key.startswith(wire)]:
            del params[key]
        if isinstance(value, Mapping):
            params.update({wire + str(key): _texts(name, item) for key, item in value.items()})
        elif value is not ABSENT:
            text = "write a table: its keys are the names, its values the values"
            raise RequestError(name, text)
        return
    wires = {one.wire for one in known.values()}
    wires.update(*(one.params for one in _shapes()[endpoint].values()))
    if wire not in wires and not wire.startswith(prefixes):
        names = [*known, *(["alias"] if _has_alias(endpoint) else [])]
        text = f"{endpoint} has no such parameter{did_you_mean(name, names)}"
        raise RequestError(name, text)
    params[wire] = _texts(name, value)


def _texts(name: str, value: object) -> Texts:
    if value is ABSENT:
        return ()
    if isinstance(value, list | tuple):
        return tuple(_text(name, item) for item in value)
    return (_text(name, value),)


def _text(name: str, value: object) -> str:
    if isinstance(value, Alias):
        return value.raw
    if value is None or isinstance(value, str | int):
        return "" if value is None else str(value)
    kind = type(value).__name__
    text = f"Infinity sends no {kind}; write a text, a whole number, True, False or None"
    raise RequestError(name, text)
