"""The variables of a script: those of the test page, or made of a request."""

from __future__ import annotations

import json
import sys
from collections import ChainMap
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NoReturn

from pexpolicy import MediaLocationRequest, ParticipantPropertiesRequest, Request
from pexpolicy.config.schema import EndpointName
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.explain.request_forms import (
    InvalidRequestError,
    parse_moment,
    read_request,
)
from pexpolicy.text import did_you_mean
from pexpolicy_local_policy.language import MAX_DIGITS

Kind = Literal["service", "participant", "media_location"]
ENDPOINT_OF: Mapping[Kind, EndpointName] = {
    "service": "service_configuration",
    "participant": "participant_properties",
    "media_location": "media_location",
}
"""The endpoint whose decision a script of each kind changes."""
KIND_OF: Mapping[str, Kind] = {endpoint: kind for kind, endpoint in ENDPOINT_OF.items()}
VARIABLES: Mapping[Kind, tuple[str, ...]] = {
    "service": ("call_info", "service_config"),
    "participant": ("call_info", "service_config", "participant"),
    "media_location": ("call_info", "service_config", "suggested_media_overflow_locations"),
}
"""The variables of each kind of script (transcribed)."""

_COMMON = (
    *("bandwidth", "call_direction", "call_tag", "has_authenticated_display_name", "idp_uuid"),
    *("local_alias", "location", "node_ip", "previous_service_name", "protocol"),
    *("pseudo_version_id", "registered", "remote_address", "remote_alias"),
    *("remote_display_name", "remote_port", "supports_direct_media", "teams_tenant_id"),
    *("telehealth_request_id", "trigger", "vendor", "version_id"),
)
_LISTS = {"ms_subnet": "ms_subnet", "p_asserted_identity": "p_asserted_identity"}
_SERVICE = ("service_name", "service_tag", "unique_service_name")
CALL_INFO: Mapping[Kind, tuple[str, ...]] = {
    "service": (
        *_COMMON,
        *("external_policy_disposition", "display_count", "breakout_uuid"),
        *("third_party_passcode", *_SERVICE, *_LISTS),
    ),
    "participant": (*_COMMON, "external_policy_disposition", "display_count", *_SERVICE, *_LISTS),
    "media_location": (
        *_COMMON,
        *("proxy_node_address", "proxy_node_location", *_SERVICE, *_LISTS),
    ),
}
"""The keys of ``call_info`` in each kind of script (transcribed)."""
PARTICIPANT = (
    *("auth_type", "call_uuid", "display_count", "idp_attributes", "participant_type"),
    *("participant_uuid", "preauthenticated_role", "receive_from_audio_mix", "remote_alias"),
    *("remote_display_name", "send_to_audio_mixes"),
)
"""The keys of ``participant`` (transcribed)."""
TYPED = (
    *("bandwidth", "remote_port", "display_count"),
    *("registered", "has_authenticated_display_name", "supports_direct_media"),
)


class LocalPolicyError(ValueError):
    """A script or an input that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class ScriptInput:
    """The variables of one run, and what is doubtful about them."""

    kind: Kind
    variables: Mapping[str, Any]
    remarks: tuple[str, ...] = field(default=())

    @property
    def call_info(self) -> Mapping[str, Any]:
        """Return the facts about the call."""
        found: Mapping[str, Any] = self.variables["call_info"]
        return found

    @property
    def service_config(self) -> Mapping[str, Any] | None:
        """Return the service before the script ran."""
        found: Mapping[str, Any] | None = self.variables["service_config"]
        return found


def from_test_page(document: object, kind: Kind | None) -> ScriptInput:
    """Return the variables of a JSON document as Pexip's test page takes it.

    Without a kind, the variables tell it. Raises ``LocalPolicyError``.
    """
    if not isinstance(document, dict):
        raise LocalPolicyError('the input is no object, such as {"call_info": {...}}')
    kind = kind or kind_of(document) or "service"
    known = VARIABLES[kind]
    for name in document:
        if name not in known:
            hint = did_you_mean(name, known)
            raise LocalPolicyError(
                f"{name}: a script of the kind {kind} has no such variable{hint}; "
                f"it has {', '.join(known)}"
            )
    for name, value in document.items():
        if not isinstance(value, dict) and not (value is None and name != "call_info"):
            raise LocalPolicyError(f"{name}: is no object")
    remarks = [
        f"the input has no {name}, which a script on a node always has"
        for name in known
        if document.get(name) is None and name != "service_config"
    ]
    remarks += [
        f"call_info.{name}: a {kind} script has no such value as far as is known"
        f"{did_you_mean(name, CALL_INFO[kind])}"
        for name in document.get("call_info", {})
        if name not in CALL_INFO[kind]
    ]
    variables = {"call_info": {}, **dict.fromkeys(known[1:]), **document}
    return ScriptInput(kind, variables, tuple(remarks))


def kind_of(names: Container[str]) -> Kind | None:
    """Return the kind of script that alone has one of these variables."""
    kinds: tuple[Kind, ...] = ("participant", "media_location")
    return next((kind for kind in kinds if VARIABLES[kind][2] in names), None)


def from_request(kind: Kind, request: Request, **others: Any) -> ScriptInput:
    """Return the variables of a script for a request; ``others`` are those that it lacks.

    Infinity's names, as ``ms-subnet``, become those of scripts, and text becomes numbers and truth
    values where scripts have these.
    """
    call_info = {
        name: _typed(request, name) if name in TYPED else value
        for name in CALL_INFO[kind]
        if (value := request.params.get(name)) is not None
    }
    for name in _LISTS:
        if values := getattr(request, name, ()):
            call_info[name] = list(values)
    variables: dict[str, Any] = {"call_info": call_info, "service_config": None}
    if isinstance(request, ParticipantPropertiesRequest):
        variables["participant"] = _participant(request)
    if isinstance(request, MediaLocationRequest):
        variables["suggested_media_overflow_locations"] = {"location": request.location}
    return ScriptInput(kind, {**variables, **others})


def _typed(request: Request, name: str) -> Any:
    value = getattr(request, name, None)
    return value if value is not None else _number(request.params.get(name))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None  # noqa: PLR2004 - more is no port and no count


def _participant(request: ParticipantPropertiesRequest) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: value
        for name in ("call_uuid", "participant_type", "participant_uuid", "receive_from_audio_mix")
        if (value := request.params.get(name)) is not None
    }
    found |= {name: request.params.get(name) for name in ("auth_type", "remote_alias")}
    for name in ("display_count", "preauthenticated_role", "remote_display_name"):
        found[name] = getattr(request, name)
    found["idp_attributes"] = {
        name: values[0] if len(values) == 1 else list(values)
        for name, values in request.idp_attributes.items()
    }
    mix = request.send_to_audio_mixes_mix_name
    if mix is not None:
        prominent = bool(request.send_to_audio_mixes_prominent)
        found["send_to_audio_mixes"] = [{"mix_name": mix, "prominent": prominent}]
    return found


def recorded_input(text: str, kind: Kind | None) -> tuple[ScriptInput, datetime | None]:
    """Return the variables of a request as people copy it, and its time."""
    try:
        recorded = read_request(text)
    except InvalidRequestError as error:
        raise LocalPolicyError(str(error)) from None
    endpoint = recorded.endpoint
    if endpoint not in KIND_OF or kind not in (None, KIND_OF[endpoint]):
        raise LocalPolicyError(f"request: {endpoint} is not asked for a {kind or 'local'} script")
    parsed = ENDPOINTS[endpoint].parse(recorded.params, recorded.alias)
    return from_request(KIND_OF[endpoint], parsed), recorded.at


def given_input(
    kind: Kind | None, path: Path | None, request: str | None, written: Mapping[str, Any]
) -> tuple[ScriptInput, datetime | None]:
    """Return the variables of a file, replaced by those of a request, then by the ``written`` ones.

    Also return the time of the request. Raises ``LocalPolicyError``.
    """
    layers, at = [{} if path is None else read_json(path)], None
    document = layers[0]
    if request is not None:
        found, at = recorded_input(request, kind)
        layers.append({name: value for name, value in found.variables.items() if value})
        kind = found.kind
    try:
        if isinstance(document, dict) and isinstance(document.get("call_info", {}), dict):
            layers.append(written)
            call_info = ChainMap(*(layer.get("call_info", {}) for layer in reversed(layers)))
            document = {**ChainMap(*reversed(layers)), "call_info": dict(call_info)}
        return from_test_page(document, kind), at
    except LocalPolicyError as error:
        raise LocalPolicyError(f"{path}: {error}" if path else str(error)) from None


def read_moment(text: str) -> datetime:
    """Return a time as people write it; raises ``LocalPolicyError``."""
    try:
        return parse_moment(text)
    except ValueError as error:
        raise LocalPolicyError(f"at: {error}") from None


def read_text(path: Path) -> str:
    """Return the content of a file, or of standard input for ``-``; raises ``LocalPolicyError``."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise LocalPolicyError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except (OSError, ValueError) as error:  # the latter for a NUL in the name
        why = error.strerror if isinstance(error, OSError) else error
        raise LocalPolicyError(f"{path}: cannot be read: {why}") from None


def read_json(path: Path) -> Any:
    """Return the value of a JSON file; raises ``LocalPolicyError``."""
    text = read_text(path)
    try:
        return json.loads(text, **JSON_NUMBERS)
    except (ValueError, RecursionError) as error:
        raise LocalPolicyError(f"{path}: is not JSON: {error}") from None


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")


def _whole_number(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"it has a number of {len(text):,} digits")
    return int(text)


JSON_NUMBERS: Mapping[str, Any] = {
    "parse_int": _whole_number,
    "parse_constant": _refuse_constant,
}
"""Arguments of ``json.loads`` that refuse numbers with a message for the author of a script."""
