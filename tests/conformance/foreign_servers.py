"""Stand-ins for policy servers in use: each gives the replies of one of them, faults included."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from pexpolicy.conformance.findings import Level
from tests.conformance.servers import (
    AVATAR,
    LOCATION,
    PARTICIPANT,
    REGISTRATION,
    SERVICE,
    Question,
    go_on,
    not_found,
    room,
    says,
    success,
)

Answers = dict[str, Callable[[Question], web.Response]]
CONTRACT, OPERATION, FALLBACK, WARNING = Level

ALL = frozenset(("result", "reject", "fallback"))
USED, REFUSED = frozenset(("result", "fallback")), frozenset(("reject", "fallback"))
NONE = frozenset(("fallback",))


@dataclass(frozen=True)
class ForeignServer:
    """A server by its answers; requests of other endpoints get a 404."""

    name: str
    answers: Answers
    faults: tuple[tuple[Level, str], ...]
    """Level and a part of the text of each finding."""
    effects: frozenset[str]
    """What its replies have as an effect in usual calls."""
    lost: str = ""
    """Part of the detail of a failed step, for results that Infinity drops too."""

    def __call__(self, question: Question) -> web.Response:
        return self.answers.get(question.endpoint, not_found)(question)


def _room_of_text_booleans(question: Question) -> web.Response:
    """Text booleans, empty PINs, and fields that Infinity does not know."""
    alias = question.get("local_alias")
    unknown = {"aliases": [alias], "media_encryption": "best_effort", "service_theme": None}
    pins = {"pin": "", "guest_pin": "", "allow_guests": False}
    return success(
        room(question, name=alias, enable_active_speaker_indication="true", **unknown, **pins)
    )


def _registers_a_domain(question: Question) -> web.Response:
    allowed = question.alias.lower().endswith("@example.com")
    return success({}, "continue" if allowed else "reject")


def _refuses_without_status(question: Question) -> web.Response:
    if question.get("protocol") == "sip":
        return says({"action": "reject", "result": {"disconnect": True, "message": "not found"}})
    return success(room(question, direct_media="best_effort", disconnect_on_host_disconnect=True))


def _rooms_of_a_database(question: Question) -> web.Response:
    """PINs that were numbers or null in a database, and texts instead of decisions."""
    if "local_alias" not in question.query:
        return web.Response(status=400, text="<html>", content_type="text/html")
    if question.get("call_direction") != "dial_in":
        return says("ok")
    if question.get("protocol") == "h323":
        return web.Response(text="Did not match", content_type="text/html")
    if question.get("protocol") == "sip":
        return success(room(question, pin="42", allow_guests=True), automatic_participants=[])
    return success(room(question, pin="None", guest_pin="None", allow_guests=True))


def _gateway(question: Question) -> web.Response:
    """A gateway with rates in kbit/s and a tag of another name."""
    if question.get("call_direction") == "non_dial":
        return go_on()
    if question.get("protocol") == "h323":
        return success(action="reject", _reason="no rule")
    fields: dict[str, Any] = {
        "service_type": "gateway",
        "name": f"rule:{question.number}",
        "local_alias": question.get("remote_alias") or "x",
        "remote_alias": "sip:b@example.com",
        "outgoing_protocol": "sip",
        "tag": "",
    }
    if question.get("protocol") == "sip":
        fields["max_callrate_in"] = 2048
    return success(fields, "continue", _cleaned_result=[])


def _location_of_a_subnet(question: Question) -> web.Response:
    if question.get("protocol") == "webrtc":
        overflow = {"primary_overflow_location": "Oslo", "secondary_overflow_location": "Rome"}
        return success({"location": "London", **overflow})
    return says({"status": "policy.reason.no.match - sending to the default location"})


def _participant_rules(question: Question) -> web.Response:
    if question.get("protocol") == "h323":
        return success({"reject_reason": "This rank is not permitted."}, "reject")
    if question.get("protocol") == "sip":
        return success({"destination": "sales@example.com"}, "redirect")
    return success({"remote_display_name": "Alice"}, "continue")


def _failed(_: Question) -> web.Response:
    return web.Response(status=500, text="<html>", content_type="text/html")


def _block_list(question: Question) -> web.Response:
    if "vendor" not in question.query:
        return web.Response(status=400, text="<html>", content_type="text/html")
    if question.get("vendor").startswith("Cisco"):
        return success(action="reject", reason="known bad user agent")
    return go_on()


def _rooms_of_a_prefix(question: Question) -> web.Response:
    """A room where the alias fits, else a 404 with a failure."""
    if not question.get("local_alias").startswith("meet."):
        return says({"status": "fail", "action": "continue", "result": {}}, 404)
    named = room(question, pin="2931", guest_pin="", allow_guests=True, call_tag="")
    return success(named, "continue")


def _one_room_for_all(question: Question) -> web.Response:
    if not question.get("local_alias"):
        return success({}, "continue")
    locked = {"local_alias": question.get("local_alias"), "locked": True}
    return success(room(question, **locked), "continue")


def _passes_on_a_reject(question: Question) -> web.Response:
    """A status of its own for a reject, and the errors of a gateway in front of it."""
    if question.get("trigger") == "options":
        return web.Response(status=429, text="slow down", content_type="text/plain")
    if question.get("protocol") == "h323":
        return says({"status": "success", "action": "reject"}, 404)
    if question.get("protocol") == "sip":
        return says({"status": "reject", "action": "reject", "_reason": "limit reached"})
    return go_on()


SERVERS = (
    ForeignServer(
        "rooms with text booleans",
        {
            SERVICE: _room_of_text_booleans,
            PARTICIPANT: lambda q: success({}, "continue" if q.get("remote_alias") else "reject"),
            REGISTRATION: _registers_a_domain,
        },
        (
            (CONTRACT, "Conference.name = ''"),
            (WARNING, "enable_active_speaker_indication: write true for 'true'"),
            (WARNING, "there is no field 'aliases'"),
            (WARNING, "'media_encryption' in Conference; there are "),
            (WARNING, "'service_theme' in Conference; there are "),
            (WARNING, "an empty guest PIN"),
            (WARNING, "a probe such as OPTIONS"),
            (WARNING, "needs breakout = true"),
        ),
        ALL,
        lost="name",
    ),
    ForeignServer(
        "rejects without a status",
        {SERVICE: _refuses_without_status},
        (
            (CONTRACT, "there is no status; only the exact text 'success' counts, and action"),
            (WARNING, "there is no field 'disconnect_on_host_disconnect'"),
            (WARNING, "a probe such as OPTIONS"),
            (WARNING, "a request without an alias"),
            (WARNING, "needs breakout = true"),
        ),
        ALL,
    ),
    ForeignServer(
        "PINs from a database",
        {SERVICE: _rooms_of_a_database},
        (
            (CONTRACT, "Conference.pin: must be 4 to 20 characters"),
            (CONTRACT, "Conference.guest_pin: must be 4 to 20 characters"),
            (CONTRACT, "it is not an object"),
            (CONTRACT, "the body is not JSON"),
            (CONTRACT, "the content type is 'text/html'"),
            (OPERATION, "400: the server refuses to read"),
        ),
        USED,
        lost="pin",
    ),
    ForeignServer(
        "gateways with rates in kbit/s",
        {SERVICE: _gateway, PARTICIPANT: go_on},
        (
            (CONTRACT, "of bits per second from 128000"),
            (WARNING, "service_tag: is missing"),
            (WARNING, "not the same decision as “service” (name differs)"),
            (WARNING, "tag: there is no field 'tag' in Gateway"),
            (WARNING, "a request without an alias"),
            (WARNING, "needs breakout = true"),
        ),
        ALL,
        lost="max_callrate_in",
    ),
    ForeignServer(
        "locations with a status in own words",
        {LOCATION: _location_of_a_subnet},
        (
            (FALLBACK, "status = 'policy.reason.no.match"),
            (WARNING, "primary_overflow_location"),
            (WARNING, "secondary_overflow_location"),
        ),
        USED,
    ),
    ForeignServer(
        "rules that redirect participants",
        {SERVICE: go_on, PARTICIPANT: _participant_rules},
        (
            (CONTRACT, "action = 'redirect' is not one of continue, reject"),
            (WARNING, "there is no field 'destination'"),
        ),
        ALL,
    ),
    ForeignServer(
        "pictures of a directory that is down",
        {AVATAR: _failed},
        ((OPERATION, "500: the server failed"),),
        NONE,
    ),
    ForeignServer(
        "a block list that needs the vendor",
        {SERVICE: _block_list},
        ((OPERATION, "400: the server refuses to read"),),
        REFUSED,
    ),
    ForeignServer(
        "rejects of another server, passed on",
        {SERVICE: _passes_on_a_reject},
        (
            (CONTRACT, "status = 'reject'; only the exact text 'success' counts, and action"),
            (WARNING, "whether an action counts with status 404 is not settled"),
            (OPERATION, "429: the server limits requests"),
        ),
        REFUSED,
    ),
    ForeignServer(
        "rooms of a prefix",
        {SERVICE: _rooms_of_a_prefix},
        (
            (WARNING, "there is no field 'call_tag' in Conference; there are"),
            (WARNING, "an empty guest PIN"),
            (WARNING, "needs breakout = true"),
        ),
        USED,
    ),
    ForeignServer(
        "one room for all, breakout rooms too",
        {SERVICE: _one_room_for_all, PARTICIPANT: go_on},
        (
            (WARNING, "local_alias: there is no field 'local_alias' in Conference"),
            (WARNING, "a probe such as OPTIONS"),
            (WARNING, "needs breakout = true"),
        ),
        USED,
    ),
    ForeignServer(
        "the alias as the whole result",
        {SERVICE: lambda q: success({"local_alias": q.get("local_alias")}), PARTICIPANT: go_on},
        ((CONTRACT, "service_type: is required"),),
        USED,
        lost="service_type",
    ),
)
