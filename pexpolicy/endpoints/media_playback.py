"""Media playback: a playlist, and what follows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from pexpolicy.endpoints import service_rules
from pexpolicy.endpoints.field_types import BitsPerSecond, Name, NonIdpParticipants, Pin
from pexpolicy.endpoints.service_types import Service
from pexpolicy.models.contract import contract_of
from pexpolicy.models.decision import Text
from pexpolicy.models.model import Model, Unset
from pexpolicy.models.rules import Confidence, Field, Rule, each

_TRANSFER_FIELDS = {
    "conference": Field("alias of the service that the caller is transferred to"),
    "role": Field(
        "role in which the caller arrives",
        Confidence.DISPUTED,
        "oda: chair, guest; pexip-tf: auto, host, guest",
        "auto",
    ),
}
_TRANSFER_RULES = each(
    Rule(
        "role",
        "auto and host are known to the management API only; chair and guest are documented",
        Confidence.DISPUTED,
        "oda; pexip-tf differs",
        lambda sent: sent.role in ("auto", "host"),
    ),
)


class Transfer(Model, fields=_TRANSFER_FIELDS, rules=_TRANSFER_RULES):
    """The service that the caller is transferred to after the playlist."""

    __slots__ = ()

    conference: Annotated[str, Meta(min_length=1, max_length=250)]
    """Alias of the service that the caller is transferred to."""
    role: Literal["chair", "guest", "auto", "host"] | Unset = UNSET
    """Role in which the caller arrives. Default: auto."""


_ON_COMPLETION_FIELDS = {
    "disconnect": Field("true ends the call"),
    "transfer": Field("the caller is transferred to another service"),
}


class OnCompletion(Model, fields=_ON_COMPLETION_FIELDS):
    """The action after a playlist: ``disconnect=True`` or ``transfer=Transfer(...)``."""

    __slots__ = ()

    disconnect: bool | Unset = UNSET
    """True ends the call."""
    transfer: Transfer | Unset = UNSET
    """The caller is transferred to another service."""


def is_no_completion(value: Any) -> bool:
    """Return true for anything but one of the two forms, as an object or as JSON text."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value, type=contract_of(OnCompletion).wire)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return True
    ends, transfers = value.disconnect is not UNSET, value.transfer is not UNSET
    return ends == transfers or (ends and value.disconnect is not True)


RULES = each(
    Rule(
        "on_completion",
        'must be either {"disconnect": true} or {"transfer": {"conference": …, "role": …}}',
        Confidence.TRANSCRIBED,
        "oda",
        lambda sent: is_no_completion(sent.on_completion),
    ),
    Rule(
        "on_completion",
        "is JSON text, which the management API stores; an object is documented",
        Confidence.DISPUTED,
        "oda; oda-local, ps and pexip-tf have text",
        lambda sent: isinstance(sent.on_completion, str),
    ),
)


class MediaPlayback(
    Service,
    constants={"service_type": "media_playback"},
    rules=(*service_rules.NAMES, *service_rules.PINS, *RULES),
):
    """A playlist that is played to the caller."""

    __slots__ = ()

    service_type: Literal["media_playback"] = "media_playback"
    """Kind of service."""
    media_playlist_name: Name
    """Name of a playlist in Infinity; some scripts send media_playlist with a number instead
    (reported).
    """
    on_completion: OnCompletion | Text | Unset = UNSET
    """Action after the playlist."""
    allow_guests: bool | Unset = UNSET
    """Guests may join. Default: false."""
    pin: Pin | Unset = UNSET
    """Host PIN."""
    guest_pin: Pin | Unset = UNSET
    """Guest PIN."""
    host_identity_provider_group: Text | Unset = UNSET
    """Identity providers for hosts; empty means no single sign-on."""
    guest_identity_provider_group: Text | Unset = UNSET
    """Identity providers for guests; empty means no single sign-on."""
    non_idp_participants: NonIdpParticipants | Unset = UNSET
    """Treatment of callers who cannot sign on. Default: disallow_all."""
    max_callrate_out: BitsPerSecond | Unset = UNSET
    """Highest rate to a participant; the management API has the same in kbit/s."""
