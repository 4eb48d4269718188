"""One fault is one finding: each has its level and topic, and nothing else is reported."""

from typing import Any

import pytest
from aiohttp import web

from pexpolicy.conformance.findings import Level, Topic
from tests.conformance.answers import body, dialled, entry, envelope, jpeg, result, status, when
from tests.conformance.fault import FLOWS_OF
from tests.conformance.run_flows import found, run_flows
from tests.conformance.servers import (
    AVATAR,
    DIRECTORY,
    LOCATION,
    PARTICIPANT,
    REGISTRATION,
    SERVICE,
    Answer,
    Question,
    go_on,
    room,
    says,
    serving,
    sound,
    success,
)

CONTRACT, OPERATION, FALLBACK, WARNING = Level
T = Topic


def is_call(question: Question) -> bool:
    return bool(question.get("local_alias")) and question.get("call_direction") == "dial_in"


def vmr(**fields: object) -> Answer:
    """A conference for calls; a field that is ``...`` is left out."""
    return when(is_call, lambda q: success(room(q, **fields)))


def call(answer: Answer) -> Answer:
    return when(is_call, answer)


def device(fields: dict[str, Any]) -> Answer:
    return when(lambda q: "sso" not in q.get("auth_type"), result(fields))


GATEWAY = {"service_type": "gateway", "outgoing_protocol": "sip", **dialled()}
PLAYBACK = {"service_type": "media_playback", "media_playlist_name": "Ads"}

# fmt: off
# ruff: noqa: E501 - a table
ROWS: tuple[tuple[str, str, Answer, Level, Topic], ...] = (
    ("a rate of 64 kbit/s", SERVICE, vmr(service_type="test_call", max_callrate_in=64000), CONTRACT, T.RESULT),
    ("a rate that a test call does not have", SERVICE, vmr(service_type="test_call", max_callrate_out=500000), WARNING, T.RESULT),
    ("a tag that is null", SERVICE, vmr(service_tag=None), WARNING, T.RESULT),
    ("no tag", SERVICE, vmr(service_tag=...), WARNING, T.RESULT),
    ("1 for true", SERVICE, vmr(locked=1), CONTRACT, T.RESULT),
    ("text for true", SERVICE, vmr(locked="true"), WARNING, T.RESULT),
    ("yes for true", SERVICE, vmr(locked="yes"), CONTRACT, T.RESULT),
    ("a limit with a fraction", SERVICE, vmr(participant_limit=5.5), CONTRACT, T.RESULT),
    ("a limit in text", SERVICE, vmr(participant_limit="5"), WARNING, T.RESULT),
    ("a PIN of 21", SERVICE, vmr(pin="1" * 21), CONTRACT, T.RESULT),
    ("a PIN that begins with #", SERVICE, vmr(pin="#1234"), CONTRACT, T.RESULT),
    ("a PIN of full width", SERVICE, vmr(pin="\uff11\uff12\uff13\uff14"), CONTRACT, T.RESULT),
    ("two equal PINs", SERVICE, vmr(pin="1234", guest_pin="1234", allow_guests=True), WARNING, T.RESULT),
    ("PINs of two lengths", SERVICE, vmr(pin="1234", guest_pin="12345", allow_guests=True), WARNING, T.RESULT),
    ("a guest PIN for no guests", SERVICE, vmr(pin="1234", guest_pin="5678", allow_guests=False), WARNING, T.RESULT),
    ("an owner of 101 characters", SERVICE, vmr(primary_owner_email_address="x" * 101), CONTRACT, T.RESULT),
    ("no resolution of Infinity", SERVICE, vmr(max_pixels_per_second="4k"), CONTRACT, T.RESULT),
    ("31 seconds of notice", SERVICE, vmr(direct_media_notification_duration=31), CONTRACT, T.RESULT),
    ("an end without a breakout", SERVICE, vmr(end_time=0), CONTRACT, T.RESULT),
    ("a name of 251 characters", SERVICE, vmr(name="x" * 251), CONTRACT, T.RESULT),
    ("a name of blanks", SERVICE, vmr(name="  "), WARNING, T.RESULT),
    ("captions in another language", SERVICE, vmr(source_language="en", live_captions_language="de"), WARNING, T.RESULT),
    ("an end that is text", SERVICE, vmr(**PLAYBACK, on_completion='{"disconnect": true}'), WARNING, T.RESULT),
    ("two ends", SERVICE, vmr(**PLAYBACK, on_completion={"disconnect": True, "transfer": {"conference": "a"}}), CONTRACT, T.RESULT),
    ("a role of the management API", SERVICE, vmr(**PLAYBACK, on_completion={"transfer": {"conference": "a", "role": "host"}}), WARNING, T.RESULT),
    ("half a pattern", SERVICE, vmr(service_type="two_stage_dialing", match_string="("), WARNING, T.RESULT),
    ("no protocol", SERVICE, vmr(**{**GATEWAY, "outgoing_protocol": ...}), CONTRACT, T.RESULT),
    ("a layout of conferences", SERVICE, vmr(service_type="lecture", view="one_main_zero_pips"), WARNING, T.RESULT),
    ("a host to call", SERVICE, vmr(automatic_participants=[dialled(protocol="sip", role="host")]), CONTRACT, T.RESULT),
    ("a stream in text", SERVICE, vmr(automatic_participants=[dialled(protocol="rtmp", role="guest", streaming="True")]), WARNING, T.RESULT),
    ("a theme that is null", SERVICE, vmr(ivr_theme_name=None), WARNING, T.RESULT),
    ("a result that is null", SERVICE, call(envelope(status="success", result=None)), WARNING, T.RESULT),
    ("a result that is false", SERVICE, call(envelope(status="success", result=False)), CONTRACT, T.RESULT),
    ("a success in capitals with a room", SERVICE, call(lambda q: says({"status": "SUCCESS", "result": room(q)})), CONTRACT, T.ENVELOPE),
    ("a status that is null", SERVICE, call(envelope(status=None, action="continue")), FALLBACK, T.ENVELOPE),
    ("a failure that rejects", SERVICE, call(envelope(status="fail", action="reject")), WARNING, T.ENVELOPE),
    ("an unknown action with a room", SERVICE, call(lambda q: success(room(q), "allow")), WARNING, T.ACTION),
    ("an unknown action alone", SERVICE, call(envelope(status="success", action="allow")), CONTRACT, T.ACTION),
    ("a scheme that no call has", SERVICE, call(result({"new_alias": "http://x"}, "redirect")), WARNING, T.REDIRECT),
    ("a blank in a redirect", SERVICE, call(result({"new_alias": "sip:a b"}, "redirect")), CONTRACT, T.REDIRECT),
    ("a redirect in a circle", SERVICE, call(lambda q: success({"new_alias": "sip:" + q.get("local_alias").removeprefix("sip:").upper()}, "redirect")), WARNING, T.REDIRECT),
    ("a reject with a field", SERVICE, call(result({"x": 1}, "reject")), WARNING, T.REJECT),
    ("a 429", SERVICE, call(status(429)), OPERATION, T.STATUS),
    ("a reject with a 404", SERVICE, call(lambda _: says({"status": "success", "action": "reject"}, 404)), WARNING, T.STATUS),
    ("a 202", SERVICE, call(lambda _: says({"status": "success"}, 202)), CONTRACT, T.STATUS),
    ("JSON of another type", SERVICE, call(lambda _: says({"status": "success"}, content_type="text/json")), CONTRACT, T.CONTENT_TYPE),
    ("a comma at the end", SERVICE, call(body(b'{"status":"success",}')), CONTRACT, T.JSON),
    ("a key twice at depth", SERVICE, call(body(b'{"status":"success","x":{"a":1,"a":2}}')), CONTRACT, T.JSON),
    ("a line break in text", SERVICE, call(body(b'{"status":"success","x":"a\nb"}')), CONTRACT, T.JSON),
    ("a role in capitals", PARTICIPANT, result({"preauthenticated_role": "Chair"}), CONTRACT, T.RESULT),
    ("a lock in text", PARTICIPANT, result({"bypass_lock": "True"}), WARNING, T.RESULT),
    ("a reason that rejects nothing", PARTICIPANT, result({"reject_reason": "no"}), CONTRACT, T.RESULT),
    ("a spotlight below 0", PARTICIPANT, result({"spotlight": -1}), WARNING, T.RESULT),
    ("one mix alone", PARTICIPANT, result({"send_to_audio_mixes": {"mix_name": "main"}}), CONTRACT, T.RESULT),
    ("an unknown action of a participant", PARTICIPANT, lambda _: success({"bypass_lock": True}, "accept"), WARNING, T.ACTION),
    ("Infinity", PARTICIPANT, body(b'{"status":"success","result":{"spotlight":Infinity}}'), CONTRACT, T.JSON),
    ("no overflow", LOCATION, result({"location": "London", "overflow_locations": None}), WARNING, T.RESULT),
    ("the old overflow", LOCATION, result({"location": "London", "primary_overflow_location": "Oslo"}), WARNING, T.RESULT),
    ("a list of locations", LOCATION, result(["London"]), CONTRACT, T.RESULT),
    ("an empty location", LOCATION, result({}), WARNING, T.RESULT),
    ("an action of a location", LOCATION, lambda _: success({"location": "London"}, "allow"), WARNING, T.ACTION),
    ("JSON for no picture", AVATAR, go_on, WARNING, T.AVATAR),
    ("a GIF", AVATAR, jpeg(kind="GIF", mode="L"), CONTRACT, T.AVATAR),
    ("a page for no picture", AVATAR, lambda _: web.Response(status=404, text="<html>", content_type="text/html"), WARNING, T.CONTENT_TYPE),
    ("a picture that fails", AVATAR, status(500), OPERATION, T.STATUS),
    ("an object for a list", DIRECTORY, result({}), WARNING, T.RESULT),
    ("an alias that is a number", DIRECTORY, result([entry(alias=5)]), CONTRACT, T.DIRECTORY),
    ("a fourth key", DIRECTORY, result([entry(extra="x")]), WARNING, T.DIRECTORY),
    ("no order, and no user names", DIRECTORY, when(lambda q: q.get("limit") == "10", result([entry(alias=a, description=a) for a in "bca"])), CONTRACT, T.DIRECTORY),
    ("half the credentials", REGISTRATION, device({"username": "", "password": "x"}), WARNING, T.RESULT),
    ("no credentials for anybody", REGISTRATION, device({"username": "", "password": ""}), WARNING, T.CREDENTIALS),
    ("credentials with a third field", REGISTRATION, device({"username": "a", "password": "b", "x": 1}), WARNING, T.RESULT),
    ("a user who is null", REGISTRATION, device({"username": None, "password": "b"}), CONTRACT, T.RESULT),
    ("a registration that fails", REGISTRATION, envelope(status="fail", action="continue"), FALLBACK, T.ENVELOPE),
)
# fmt: on


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].replace(" ", "-"))
async def test_a_server_with(row: tuple[str, str, Answer, Level, Topic]) -> None:
    _, endpoint, answer, level, topic = row

    def reply(question: Question) -> Any:
        return (answer if question.endpoint == endpoint else sound)(question)

    async with serving(reply) as url:
        findings = found(await run_flows(url, FLOWS_OF[endpoint]), *Level)
    assert {(f.level, f.topic) for f in findings} == {(level, topic)}, findings
    # One text for each fault, though it may name what was sent.
    assert len({f.text.partition(":")[0][:20] for f in findings}) == 1, findings
