"""Sample variables to try a script with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from jinja2 import nodes

from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.contract import contract_of
from pexpolicy_local_policy.variables import (
    CALL_INFO,
    PARTICIPANT,
    TYPED,
    VARIABLES,
    Kind,
    ScriptInput,
)

MAX_NAMED = 24
"""Samples with a text that the script compares a variable with."""
NAME = "Sample"
_CALL: Mapping[str, Any] = {
    "bandwidth": 0,
    "call_direction": "dial_in",
    "display_count": 1,
    "has_authenticated_display_name": False,
    "ms_subnet": ["192.0.2.0"],
    "p_asserted_identity": ["sip:caller@example.com"],
    "protocol": "sip",
    "proxy_node_address": "192.0.2.2",
    "registered": False,
    "remote_address": "192.0.2.7",
    "remote_port": 5060,
    "supports_direct_media": False,
    "trigger": "invite",
}
_PARTICIPANT: Mapping[str, Any] = {
    "display_count": 1,
    "idp_attributes": {},
    "participant_type": "standard",
    "preauthenticated_role": None,
    "send_to_audio_mixes": [{"mix_name": "main", "prominent": False}],
}
_REQUIRED: Mapping[str, Any] = {
    "name": NAME,
    "service_tag": "",
    "local_alias": "sample@example.com",
    "remote_alias": "sip:callee@example.com",
    "outgoing_protocol": "sip",
    "media_playlist_name": NAME,
    "automatic_participants": [],
    "breakout_rooms": [],
}
_LOCATIONS: Mapping[str, Any] = {
    "location": NAME,
    "primary_overflow_location": None,
    "secondary_overflow_location": None,
}


class Sample(NamedTuple):
    """The variables of one run, and how a message names them."""

    name: str
    given: ScriptInput
    fails: str = "error"
    """Level of a failure: a script may rely on what most calls have."""
    dropped: str = "error"
    """Level of an output that Infinity would drop."""


def samples(kind: Kind, tree: nodes.Template) -> Iterator[Sample]:
    """Yield variables: of each service type, of calls with few values, with texts of the script."""
    usual = _variables(kind, "conference")
    yield Sample("a conference", ScriptInput(kind, usual))
    registered = {**usual["call_info"], "registered": True}
    yield Sample("a registered device", ScriptInput(kind, {**usual, "call_info": registered}))
    for service_type in [*SERVICE_TYPES][1:]:
        given = ScriptInput(kind, _variables(kind, service_type))
        yield Sample(f"service_type {service_type}", given, "warning")
    named = ((variable, key, text) for variable, key, text in _named(tree) if variable in usual)
    for variable, key, text in islice(dict.fromkeys(named), MAX_NAMED):
        changed = {**usual, variable: {**usual[variable], key: text}}
        yield Sample(f"{variable}.{key} = {text!r}", ScriptInput(kind, changed), "warning")
    without = {**usual, "service_config": None}
    yield Sample("no service_config", ScriptInput(kind, without), "warning", "warning")
    empty = {"call_info": dict.fromkeys(CALL_INFO[kind])}
    for few in ({**usual, **empty}, {**without, **empty}):
        yield Sample("an empty call_info", ScriptInput(kind, few), "note", "warning")


def _variables(kind: Kind, service_type: str) -> dict[str, Any]:
    service = {
        name: value
        for name, value in _REQUIRED.items()
        if name in contract_of(SERVICE_TYPES[service_type]).names
    }
    found: dict[str, Any] = {
        "call_info": {name: _CALL.get(name, _text(name)) for name in CALL_INFO[kind]},
        "service_config": {
            **dict.fromkeys(sorted(contract_of(SERVICE_TYPES[service_type]).names)),
            **service,
            "service_type": service_type,
        },
        "participant": {name: _PARTICIPANT.get(name, _text(name)) for name in PARTICIPANT},
        "suggested_media_overflow_locations": _LOCATIONS,
    }
    return {name: found[name] for name in VARIABLES[kind]}


def _text(name: str) -> str | None:
    """Return a value of a call: a text for each alias and name, unset for most others."""
    has_text = name not in TYPED and name.endswith(("alias", "name", "location", "vendor"))
    return f"sample {name}" if has_text else None


def _named(tree: nodes.Template) -> Iterator[tuple[str, str, Any]]:
    """Yield variable, key and value where a script compares a value with a constant."""
    for compared in tree.find_all(nodes.Compare):
        match compared.expr:
            case nodes.Getattr(node=nodes.Name(name=variable), attr=key):
                for constant in compared.find_all(nodes.Const):
                    if isinstance(constant.value, str):
                        yield variable, key, constant.value
            case _:
                pass
