"""Infinity's events: their types, which plugins import from here, and how they are received."""

from pexpolicy.models.event import ConferenceEvent, Event, ParticipantEvent, SinkEvent, SourceStale

__all__ = ["ConferenceEvent", "Event", "ParticipantEvent", "SinkEvent", "SourceStale"]
