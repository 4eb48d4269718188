"""The typed events: what a node sent, whatever it sent."""

from typing import Any

import pytest

from pexpolicy.events import ConferenceEvent, Event, ParticipantEvent, SinkEvent
from pexpolicy.models.event import MAX_TEXT, typed_event


def event(name: str, **data: Any) -> Any:
    envelope = {"node": "10.0.0.1", "seq": 3, "version": 2, "time": 1.5, "data": data}
    return typed_event({**envelope, "event": name}, "lab", 2.5)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("participant_connected", ParticipantEvent),
        ("conference_ended", ConferenceEvent),
        ("eventsink_stopped", SinkEvent),
        ("eventsink_ended", SinkEvent),
        ("participant_media_stream_window", Event),
        ("an_event_of_later_versions", Event),
    ],
)
def test_each_event_has_its_type_and_all_its_fields(name: str, kind: type[Event]) -> None:
    found = event(name, is_new=True)
    assert type(found) is kind
    assert (found.source, found.node, found.seq, found.time) == ("lab", "10.0.0.1", 3, 1.5)
    assert (found.event, found.received, found.data) == (name, 2.5, {"is_new": True})


@pytest.mark.parametrize(
    ("field", "sent", "expected"),
    [
        ("conference", "meet.alice", "meet.alice"),
        ("conference", "x" * 1_000_000, "x" * MAX_TEXT),
        ("conference", ["meet.alice"], None),
        ("protocol", "WebRTC", "webrtc"),
        ("protocol", "GMS (Google)", "gms"),
        ("has_media", False, False),
        ("has_media", "false", None),
        ("connect_time", None, None),
        ("connect_time", 1606392757.7, 1606392757.7),
        ("connect_time", True, None),
    ],
)
def test_a_field_of_another_type_is_none(field: str, sent: Any, expected: Any) -> None:
    found = event("participant_updated", **{field: sent})
    assert getattr(found, field) == expected
    assert found.role is None
