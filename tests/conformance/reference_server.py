"""A server with every kind of decision, and breakout rooms."""

from aiohttp import web

from tests.conformance.servers import (
    PARTICIPANT,
    REGISTRATION,
    ROOM_UUID,
    SERVICE,
    Question,
    go_on,
    room,
    sound,
    success,
)


def participant(question: Question) -> web.StreamResponse:
    if question.get("protocol") == "h323":
        return success({"reject_reason": "not from here"}, "reject")
    name = question.get("remote_display_name") or None
    return success({"remote_display_name": name and f"{name} | Army", "bypass_lock": True})


def service(question: Question) -> web.StreamResponse:
    if question.get("local_alias") == "lobby":
        return success({"new_alias": "sip:reception@example.com"}, "redirect")
    if question.get("protocol") == "h323":
        return success(action="reject", _reason="no number")
    named = room(question, breakout_rooms=True, breakout_uuids=[ROOM_UUID])
    named["pin"] = "1234" if question.get("protocol") == "sip" else "123456"
    return success(named, dennis_version="1.0")


def breakout(question: Question) -> web.StreamResponse:
    if question.get("breakout_uuid") != ROOM_UUID:
        return go_on()
    block = {"breakout": True, "breakout_uuid": ROOM_UUID, "breakout_name": "One"}
    return success(room(question, **block))


def lived_in(question: Question) -> web.StreamResponse:
    """Every kind of decision, and breakout rooms."""
    if question.endpoint == PARTICIPANT:
        return participant(question)
    if question.endpoint == REGISTRATION and question.get("protocol") == "h323":
        return success({}, "reject")
    if question.endpoint != SERVICE or question.get("call_direction") != "dial_in":
        return sound(question)
    if not question.get("local_alias"):
        return go_on()
    return breakout(question) if question.get("breakout_uuid") else service(question)
