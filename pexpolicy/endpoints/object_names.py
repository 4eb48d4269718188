"""Names of objects in Infinity: an unknown one invalidates the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pexpolicy.endpoints.service_types import AutomaticParticipant
from pexpolicy.models.contract import contract_of
from pexpolicy.models.decision import Decision
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.rules import Confidence
from pexpolicy.models.validation import refusal
from pexpolicy.text import brief, suggest

NAMED_OBJECTS: dict[str, str] = {
    "ivr_theme_name": "themes",
    "host_identity_provider_group": "identity_provider_groups",
    "guest_identity_provider_group": "identity_provider_groups",
    "h323_gatekeeper_name": "h323_gatekeepers",
    "sip_proxy_name": "sip_proxies",
    "stun_server_name": "stun_servers",
    "turn_server_name": "turn_servers",
    "outgoing_location_name": "locations",
    "system_location_name": "locations",
    "gms_access_token_name": "gms_access_tokens",
    "mssip_proxy_name": "mssip_proxies",
    "teams_proxy_name": "teams_proxies",
    "media_playlist_name": "media_playlists",
    "location": "locations",
    "overflow_locations": "locations",
    "primary_overflow_location": "locations",
    "secondary_overflow_location": "locations",
}
"""Fields that name an object of Infinity, and the key of ``[infinity]`` that lists the names."""
MAX_COMPARED = 300
"""Names that an unknown one is compared with, as a call waits meanwhile: 10 ms."""


class ObjectNames:
    """The names that ``[infinity]`` of the configuration lists, by kind."""

    def __init__(self, declared: Mapping[str, frozenset[str]]) -> None:
        self._declared = declared

    def check(self, decision: Decision) -> None:
        """Raise ``DecisionError`` for a name of a declared kind that is not listed."""
        contract = contract_of(type(decision))
        for field, value in _named(decision.set_fields(), contract.names):
            kind = NAMED_OBJECTS[field]
            known = self._declared.get(kind)
            if known is not None and value and value not in known:
                text = f"{brief(value)} is not listed under [infinity] {kind}"
                text += suggest(value, sorted(known)) if len(known) <= MAX_COMPARED else ""
                mark = Confidence.TRANSCRIBED
                raise DecisionError(refusal(contract, field, value, text, mark))


def _named(fields: Mapping[str, Any], known: frozenset[str]) -> Iterable[tuple[str, str]]:
    """Yield the names in fields, each with its field; skip unknown fields."""
    for field in NAMED_OBJECTS.keys() & fields.keys() & known:
        value = fields[field]
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str):
                yield field, name
    if "automatic_participants" in known:
        for participant in fields.get("automatic_participants", ()):
            yield from _named(participant, contract_of(AutomaticParticipant).names)
