"""The events that Conferencing Nodes send to an event sink, as plugins get them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

MAX_TEXT = 1000
"""Characters of a text in a typed event; Infinity's own names have 250 at most."""
STALE = "source_stale"
"""The name of the event that this server makes itself."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event, of any name; those of later versions of Infinity come as this class.

    One may come more than once, and late. ``(source, node, seq, time)`` identify it.
    """

    source: str
    """The platform: NAME of ``[events.NAME]``, or ``default``. Keep what you store by it."""
    node: str
    """The address of the node that has sent it; empty if the Management API told it instead."""
    seq: int
    """The number of the event in the series of its node, which begins at 1 with each start."""
    time: float
    """When the node sent it, in seconds since 1970. It may be wrong, or in the future."""
    received: float
    """When this server got it, in seconds since 1970."""
    event: str
    """The name, such as ``participant_connected``."""
    version: int = 2
    """The version of the protocol, 1 or 2."""
    data: Mapping[str, Any] = {}
    """All fields as they were sent; of an event above 16 KiB, the beginnings of its texts."""


class ParticipantEvent(Event, frozen=True, kw_only=True):
    """``participant_connected``, ``participant_updated`` or ``participant_disconnected``.

    A field that is ``None`` was not sent, or was null or of another type: that is no change.
    """

    uuid: str | None = None
    """The participant, over all rooms."""
    call_id: str | None = None
    conversation_id: str | None = None
    """The calls of one person, such as the ``API`` call and the media call of a web app."""
    conference: str | None = None
    """The name of the service, as in our service answer."""
    service_type: str | None = None
    """``connecting``, ``ivr``, ``waiting_room``, ``conference``, ``lecture``, ``gateway`` …"""
    service_tag: str | None = None
    call_tag: str | None = None
    call_direction: str | None = None
    """``in`` or ``out``."""
    source_alias: str | None = None
    destination_alias: str | None = None
    display_name: str | None = None
    role: str | None = None
    """``chair``, ``guest`` or ``unknown``."""
    protocol: str | None = None
    """In lower case, the first word only: ``webrtc``, ``sip``, ``h323``, ``teams``, ``api`` …"""
    has_media: bool | None = None
    is_streaming: bool | None = None
    connect_time: float | None = None
    """Seconds since 1970; null while connecting, and after a move between breakout rooms."""
    remote_address: str | None = None
    system_location: str | None = None
    media_node: str | None = None


class ConferenceEvent(Event, frozen=True, kw_only=True):
    """``conference_started``, ``_updated`` or ``_ended``, each as seen by one node.

    A field that is ``None`` was not sent, or was null or of another type: that is no change.
    """

    name: str | None = None
    """The name of the service, as in our service answer."""
    tag: str | None = None
    """Its tag, which is ``service_tag`` of our answer."""
    service_type: str | None = None
    start_time: float | None = None
    end_time: float | None = None
    is_locked: bool | None = None
    is_started: bool | None = None
    guests_muted: bool | None = None


class SinkEvent(Event, frozen=True, kw_only=True):
    """``eventsink_started``, ``_updated``, and ``_stopped`` or ``_ended``: of the sink itself."""


class SourceStale(Event, frozen=True, kw_only=True):
    """Events of a node are missing, so what is known of its participants may be wrong.

    This server makes it, before the event that shows it. An empty ``node``: of any node.
    """

    why: str = ""
    """What is missing, in English."""
    is_stale: bool = True
    """False: what was missing has come after all, or was repaired."""


_TYPES: Mapping[str, tuple[type, ...]] = {"str": (str,), "bool": (bool,), "float": (int, float)}
_KINDS: Mapping[str, type[Event]] = {
    **{f"conference_{what}": ConferenceEvent for what in ("started", "updated", "ended")},
    **{f"participant_{w}": ParticipantEvent for w in ("connected", "updated", "disconnected")},
    **{f"eventsink_{what}": SinkEvent for what in ("started", "updated", "stopped", "ended")},
    STALE: SourceStale,
    "participant_media_stream_window": Event,
    "participant_media_streams_destroyed": Event,
}
_FIELDS: Mapping[type[Event], list[tuple[str, tuple[type, ...]]]] = {
    kind: [(one, _TYPES[text.partition(" ")[0]]) for one, text in kind.__annotations__.items()]
    for kind in (ConferenceEvent, ParticipantEvent, SourceStale)
}
EVENTS = tuple(_KINDS)
"""The names that are known."""
OTHER = "other"
"""Stands for each other one in counts."""


def typed_event(envelope: Mapping[str, Any], source: str, received: float) -> Event:
    """Return the event of an envelope, whose keys are those of ``Event``.

    ``data`` may hold anything: what cannot be used is ``None`` in the typed fields.
    """
    kind = _KINDS.get(envelope["event"], Event)
    fields: dict[str, Any] = {}
    for name, types in _FIELDS.get(kind, ()):
        value = envelope["data"].get(name)
        if isinstance(value, types) and (bool in types or not isinstance(value, bool)):
            fields[name] = value[:MAX_TEXT] if isinstance(value, str) else value
    if "protocol" in fields:
        fields["protocol"] = fields["protocol"].partition(" ")[0].lower()
    return kind(**{**envelope, **fields, "source": source, "received": received})
