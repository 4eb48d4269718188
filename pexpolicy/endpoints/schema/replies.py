"""JSON Schema of the replies: the envelope, and what may stand in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pexpolicy.endpoints.directory_information import Directory, DirectoryEntry
from pexpolicy.endpoints.media_location import MediaLocation
from pexpolicy.endpoints.participant_properties import ParticipantProperties
from pexpolicy.endpoints.registration_alias import Credentials
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.decision import Redirect
from pexpolicy.models.model import Model
from pexpolicy.models.validation import MAX_TEXT

Schema = dict[str, Any]


def _ref(*models: type[Model]) -> Schema:
    refs = [{"$ref": f"#/$defs/{model.__name__}"} for model in models]
    return refs[0] if len(refs) == 1 else {"anyOf": refs}


def _reply(description: str, *forms: Schema, **properties: Schema) -> Schema:
    """An envelope: ``status`` and one of the forms; keys of our own may stand beside them."""
    return {
        "description": description,
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": {"const": "success"},
            "decision_id": {"type": "string"},
            "decided_by": {"type": "string"},
            "reason": {"type": "string", "maxLength": MAX_TEXT},
            **properties,
        },
        "anyOf": list(forms),
    }


def _form(description: str, action: str, result: Schema | None, *, required: bool = True) -> Schema:
    """One form of a reply; without a schema for its result it has none."""
    form: Schema = {
        "description": description,
        "properties": {"action": {"const": action}},
        "required": ["action"],
    }
    if result is None:
        form["not"] = {"required": ["result"]}
        return form
    form["properties"]["result"] = result
    if required:
        form["required"].append("result")
    return form


_EMPTY: Schema = {"type": "object", "maxProperties": 0}
_TOLD: Schema = {
    "type": "object",
    "properties": {"reject_reason": {"type": "string", "maxLength": MAX_TEXT}},
    "additionalProperties": False,
}
_HANDED_BACK: Schema = {
    "properties": {"status": {"const": "fail"}, "action": {"const": "continue"}},
    "not": {"required": ["result"]},
}
_FAILING: Schema = {"enum": ["success", "fail"]}
_ENTRIES: Schema = {"type": "array", "items": _ref(DirectoryEntry)}

REPLIES: Mapping[str, Schema] = {
    "service_configuration": _reply(
        "The reply to a request about a service.",
        _form("A service.", "continue", _ref(*SERVICE_TYPES.values())),
        _form("Infinity's own database decides.", "continue", None),
        _form("The call is refused.", "reject", None),
        _form("A SIP caller is sent elsewhere.", "redirect", _ref(Redirect) | {"maxProperties": 1}),
    ),
    "participant_properties": _reply(
        "The reply to a request about a participant.",
        _form("Properties that are changed.", "continue", _ref(ParticipantProperties)),
        _form("Nothing is changed.", "continue", None),
        _form("The participant is refused.", "reject", _TOLD, required=False),
    ),
    "media_location": _reply(
        "The reply to a request for a location; with status 404, Infinity chooses it itself.",
        _form("A location.", "continue", _ref(MediaLocation)),
        _HANDED_BACK,
        status=_FAILING,
    ),
    "participant_avatar": _reply(
        "The body of a 404: there is no picture. A picture is a 200 with a JPEG (image/jpeg).",
        _HANDED_BACK,
        status={"const": "fail"},
    ),
    "directory_information": _reply(
        "The reply to a search in the phone book.",
        {"properties": {"result": _ENTRIES}, "required": ["result"]},
        ignore_local={
            "type": "boolean",
            "description": Directory.fields["ignore_local"].doc,
            "default": False,
        },
    ),
    "registration_alias": _reply(
        "The reply to a request about a device that registers.",
        _form("The device must prove these.", "continue", _ref(Credentials)),
        _form("Infinity's own database decides.", "continue", _EMPTY),
        _form("The registration is refused.", "reject", _EMPTY),
    ),
}
"""The schema of each reply, its envelope included."""
