"""Faulty policy servers: each is caught, and for its own fault alone.

One row has the fault of a server, its endpoint, what the conformance test must report, its answer.
Everything that a fault does not concern is answered as the sound server does.
"""

from typing import Any
from urllib.parse import unquote, unquote_plus

import pytest
from aiohttp import web

from pexpolicy.conformance.findings import Topic
from tests.conformance.answers import (
    about,
    block,
    body,
    dialled,
    entry,
    envelope,
    jpeg,
    latin,
    many,
    named,
    raw,
    result,
    status,
    swapped,
    tagged,
    vmr,
    when,
)
from tests.conformance.fault import BREAKOUT, CODING, DIAL_OUT, OLD, PATHS, SIP, VALUES, WEB, Fault
from tests.conformance.run_flows import found, run_flows
from tests.conformance.servers import (
    AVATAR,
    DIRECTORY,
    JSON,
    LOCATION,
    PARTICIPANT,
    REGISTRATION,
    SERVICE,
    entries,
    room,
    says,
    serving,
    success,
)

T = Topic

# ruff: noqa: E501 - a table
# fmt: off
ROWS: tuple[tuple[Any, ...], ...] = (
    # HTTP
    ("fails", SERVICE, T.STATUS, "500: the server failed", status(500)),
    ("is a broken proxy", LOCATION, T.STATUS, "502", status(502)),
    ("redirects to a slash", SERVICE, T.STATUS, "redirects are not", status(301, Location="/policy/v1/service/configuration/")),
    ("redirects to https", DIRECTORY, T.STATUS, "redirects are not", status(307, Location="https://127.0.0.1/")),
    ("asks for other credentials", SERVICE, T.STATUS, "check user and password", when(lambda q: q.number > 1, status(401))),
    ("forbids", REGISTRATION, T.STATUS, "refuses access to the node", status(403)),
    ("creates", PARTICIPANT, T.STATUS, "sent with 200", status(201)),
    ("has no content", SERVICE, T.STATUS, "sent with 200", status(204)),
    ("wants POST", SERVICE, T.STATUS, "refuses to read", status(405)),
    ("needs a tag of the call", SERVICE, T.STATUS, "refuses to read", when(lambda q: "call_tag" not in q.query, status(400)), (OLD,)),
    ("needs a vendor", SERVICE, T.STATUS, "refuses to read", when(lambda q: "vendor" not in q.query, status(400)), (VALUES,)),
    ("refuses unknown parameters", SERVICE, T.STATUS, "refuses to read", when(lambda q: "Call-ID" in q.query, status(422)), (VALUES,)),
    ("crashes without an alias", SERVICE, T.STATUS, "the server failed", when(lambda q: "local_alias" not in q.query, status(500)), (VALUES,)),
    ("crashes on numbers", SERVICE, T.STATUS, "the server failed", when(lambda q: not q.get("bandwidth").isdigit(), status(500)), (VALUES,)),
    ("crashes on repeated keys", PARTICIPANT, T.STATUS, "the server failed", when(lambda q: len(q.query.getall("idp_attribute_groups", [])) > 1, status(500)), (CODING,)),
    ("crashes on long queries", PARTICIPANT, T.STATUS, "the server failed", when(lambda q: len(q.raw_query) > 16384, status(500)), (CODING,)),
    ("crashes on a scheme in the path", REGISTRATION, T.STATUS, "the server failed", when(lambda q: q.raw_alias.startswith("sip:"), status(500)), (PATHS,)),
    ("reads an alias as a number", AVATAR, T.STATUS, "the server failed", when(lambda q: "@" in q.alias, status(500))),
    ("decides with a 404", SERVICE, T.STATUS, "a result is lost", lambda q: says({"status": "success", "result": room(q)}, 404)),
    ("compresses unasked", SERVICE, T.FRAMING, "which was not requested", lambda _: web.Response(body=b"{}", content_type=JSON, headers={"Content-Encoding": "gzip"})),
    ("serves HTML", SERVICE, T.CONTENT_TYPE, "not application/json", lambda _: says({"status": "success"}, content_type="text/html")),
    ("serves plain text", DIRECTORY, T.CONTENT_TYPE, "not application/json", lambda q: says({"status": "success", "result": entries(q)}, content_type="text/plain")),
    ("names no type", PARTICIPANT, T.CONTENT_TYPE, "not application/json", body(b'{"status": "success"}', "application/octet-stream")),
    # JSON
    ("says nothing", SERVICE, T.JSON, "it is empty", body(b"")),
    ("says an HTML page", LOCATION, T.JSON, "Expecting value", body(b"<html>Not found</html>")),
    ("quotes like Python", SERVICE, T.JSON, "Expecting property name", body(b"{'status': 'success'}")),
    ("ends too early", PARTICIPANT, T.JSON, "not JSON", body(b'{"status": "success", "result": {')),
    ("says two things", SERVICE, T.JSON, "Extra data", body(b'{"status": "success"}{"status": "success"}')),
    ("repeats a key", SERVICE, T.JSON, "occurs twice", body(b'{"status": "success", "action": "reject", "action": "continue"}')),
    ("says NaN", PARTICIPANT, T.JSON, "NaN is no finite number", body(b'{"status": "success", "result": {"spotlight": NaN}}')),
    ("says a huge number", PARTICIPANT, T.JSON, "1e999 is no finite number", body(b'{"status": "success", "result": {"spotlight": 1e999}}')),
    ("halves an emoji", PARTICIPANT, T.JSON, "low surrogate", body(b'{"status": "success", "result": {"remote_display_name": "\\ud83d"}}')),
    ("begins with a mark", SERVICE, T.JSON, "byte order mark", body(b'\xef\xbb\xbf{"status": "success"}')),
    ("speaks UTF-16", SERVICE, T.JSON, "byte order mark", body('{"status": "success"}'.encode("utf-16"))),
    ("speaks Latin-1", PARTICIPANT, T.JSON, "not UTF-8", body('{"status": "success", "result": {"remote_display_name": "Zoë"}}'.encode("latin-1"))),
    ("nests without end", SERVICE, T.JSON, "nested too deeply", body(b'{"a":' * 100_000)),
    ("says a list", SERVICE, T.JSON, "not an object", body(b"[]")),
    ("says it twice over", SERVICE, T.JSON, "not an object", body(b'"{\\"status\\": \\"success\\"}"')),
    # The envelope
    ("has no status", SERVICE, T.ENVELOPE, "there is no status", envelope(action="continue")),
    ("is proud of success", SERVICE, T.ENVELOPE, "only the exact text", envelope(status="Success")),
    ("is ok", PARTICIPANT, T.ENVELOPE, "only the exact text", envelope(status="ok", action="continue")),
    ("is true", LOCATION, T.ENVELOPE, "only the exact text", envelope(status=True)),
    ("fails with a result", SERVICE, T.ENVELOPE, "the result is lost", lambda q: says({"status": "fail", "result": room(q)})),
    ("allows", SERVICE, T.ACTION, "is not one of continue, reject, redirect", envelope(status="success", action="allow")),
    ("shouts", PARTICIPANT, T.ACTION, "is not one of continue, reject", envelope(status="success", action="Reject")),
    ("redirects a participant", PARTICIPANT, T.ACTION, "is not one of", envelope(status="success", action="redirect")),
    ("has an action that is a list", REGISTRATION, T.ACTION, "is not one of", envelope(status="success", action=["reject"], result={})),
    ("rejects a location", LOCATION, T.ACTION, "has no action reject", envelope(status="success", action="reject", result={"location": "London"})),
    ("rejects a search", DIRECTORY, T.ACTION, "has no action reject", envelope(status="success", action="reject", result=[])),
    ("rejects with a service", SERVICE, T.REJECT, "a usable result", lambda q: success(room(q), "reject")),
    ("rejects with a name", PARTICIPANT, T.REJECT, "nothing but reject_reason", result({"reject_reason": "no", "remote_display_name": "X"}, "reject")),
    ("rejects at length", PARTICIPANT, T.REJECT, "Reject.reject_reason", result({"reject_reason": "no" * 200}, "reject")),
    ("rejects with credentials", REGISTRATION, T.REJECT, "a usable result", result({"username": "a", "password": "b"}, "reject")),
    ("rejects without a result", REGISTRATION, T.REJECT, "needs an empty result", envelope(status="success", action="reject")),
    ("redirects nowhere", SERVICE, T.REDIRECT, "new_alias", envelope(status="success", action="redirect")),
    ("redirects without a scheme", SERVICE, T.REDIRECT, "Redirect.new_alias", result({"new_alias": "bob@example.com"}, "redirect")),
    ("redirects and serves", SERVICE, T.REDIRECT, "is a service", lambda q: success(room(q, new_alias="sip:b@example.com"), "redirect")),
    ("redirects with a tag", SERVICE, T.REDIRECT, "there is no field 'service_tag'", result({"new_alias": "sip:b@example.com", "service_tag": "x"}, "redirect")),
    ("redirects by continue", SERVICE, T.REDIRECT, "needs action", result({"new_alias": "sip:b@example.com"}, "continue")),
    # Services
    ("lists a service", SERVICE, T.RESULT, "not an object", lambda q: success([room(q)])),
    ("names a service", SERVICE, T.RESULT, "not an object", result("meet.bob")),
    ("has no service_type", SERVICE, T.RESULT, "service_type", vmr(service_type=...)),
    ("calls it a VMR", SERVICE, T.RESULT, "'vmr' is not one of conference", vmr(service_type="vmr")),
    ("has no name", SERVICE, T.RESULT, "Conference.name: is required", vmr(name=...)),
    ("has an empty name", SERVICE, T.RESULT, "Conference.name", vmr(name="")),
    ("counts a PIN", SERVICE, T.RESULT, "Conference.pin", vmr(pin=1234)),
    ("spells a PIN", SERVICE, T.RESULT, "Conference.pin", vmr(pin="abcd")),
    ("has a PIN of three", SERVICE, T.RESULT, "Conference.pin", vmr(pin="123")),
    ("thinks in kbit/s", SERVICE, T.RESULT, "max_callrate_in", vmr(max_callrate_in=1024)),
    ("limits by less than none", SERVICE, T.RESULT, "participant_limit", vmr(participant_limit=-1)),
    ("lets everybody sign on", SERVICE, T.RESULT, "non_idp_participants", vmr(non_idp_participants="allow")),
    ("describes at length", SERVICE, T.RESULT, "Conference.description", vmr(description="x" * 251)),
    ("encrypts by yes", SERVICE, T.RESULT, "crypto_mode", vmr(crypto_mode="yes")),
    ("sends media both ways", SERVICE, T.RESULT, "Conference.direct_media", vmr(direct_media="always", breakout_rooms=True)),
    ("breaks out of a breakout", SERVICE, T.RESULT, "Conference.breakout", lambda q: success(room(q, breakout_rooms=True, **block()))),
    ("breaks out without a name", SERVICE, T.RESULT, "Conference.breakout ", vmr(breakout=True)),
    ("calls without a role", SERVICE, T.RESULT, "automatic_participants[0].role", vmr(automatic_participants=[dialled(protocol="sip")])),
    ("calls by webrtc", SERVICE, T.RESULT, "automatic_participants[0].protocol", vmr(automatic_participants=[dialled(protocol="webrtc", role="guest")])),
    ("lectures in five", SERVICE, T.RESULT, "Lecture.host_view", vmr(service_type="lecture", host_view="five_mains_seven_pips")),
    ("shows guests by yes", SERVICE, T.RESULT, "guests_can_see_guests", vmr(service_type="lecture", guests_can_see_guests=True)),
    ("calls no alias", SERVICE, T.RESULT, "remote_alias: is required", vmr(service_type="gateway", outgoing_protocol="sip", local_alias="a")),
    ("calls by Zoom", SERVICE, T.RESULT, "outgoing_protocol", lambda q: success(room(q, service_type="gateway", outgoing_protocol="zoom", **dialled()))),
    ("plays nothing", SERVICE, T.RESULT, "media_playlist_name: is required", vmr(service_type="media_playback")),
    ("receives in two", SERVICE, T.RESULT, "two_stage_dial_type", vmr(service_type="two_stage_dialing", two_stage_dial_type="webex")),
    # Participants
    ("makes a host", PARTICIPANT, T.RESULT, "preauthenticated_role", result({"preauthenticated_role": "host"})),
    ("whispers", PARTICIPANT, T.RESULT, "rx_presentation_policy", result({"rx_presentation_policy": "allow"})),
    ("mixes four levels", PARTICIPANT, T.RESULT, "send_to_audio_mixes", result({"send_to_audio_mixes": [{"mix_name": "a.b.c.d"}]})),
    ("mixes without a name", PARTICIPANT, T.RESULT, "mix_name: is required", result({"send_to_audio_mixes": [{"prominent": True}]})),
    ("counts displays as text", PARTICIPANT, T.RESULT, "display_count", result({"display_count": "two"})),
    ("takes names away", PARTICIPANT, T.RESULT, "only where it was null", result({"remote_display_name": None})),
    # Locations
    ("is nowhere", LOCATION, T.RESULT, "location: is required", result({"overflow_locations": ["Oslo"]})),
    ("is in an empty place", LOCATION, T.RESULT, "MediaLocation.location", result({"location": ""})),
    ("is in two places", LOCATION, T.RESULT, "MediaLocation.location", result({"location": ["London"]})),
    ("flows into a text", LOCATION, T.RESULT, "overflow_locations", result({"location": "London", "overflow_locations": "Oslo"})),
    ("flows into nothing", LOCATION, T.RESULT, "overflow_locations", result({"location": "London", "overflow_locations": [""]})),
    # Avatars
    ("paints PNG", AVATAR, T.AVATAR, "a PNG, not a JPEG", jpeg(kind="PNG")),
    ("says PNG of a JPEG", AVATAR, T.CONTENT_TYPE, "not image/jpeg", jpeg(content_type="image/png")),
    ("paints one size", AVATAR, T.AVATAR, "is 100x100, not 64x48", jpeg(size=(100, 100))),
    ("turns pictures", AVATAR, T.AVATAR, "is 48x64, not 64x48", swapped),
    ("is off by one", AVATAR, T.AVATAR, "is 101x101", jpeg(size=(101, 101))),
    ("prints CMYK", AVATAR, T.AVATAR, "CMYK, not RGB", jpeg(mode="CMYK")),
    ("paints grey", AVATAR, T.AVATAR, "L, not RGB", jpeg(mode="L")),
    ("has PostScript run", AVATAR, T.AVATAR, "cannot be read", jpeg(lambda _: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")),
    ("tears pictures", AVATAR, T.AVATAR, "cannot be read", jpeg(lambda image: image[: len(image) // 2])),
    ("shows nothing", AVATAR, T.AVATAR, "cannot be read", body(b"", "image/jpeg")),
    ("shows a page", AVATAR, T.AVATAR, "cannot be read", body(b"<html>", "image/jpeg")),
    ("wraps pictures", AVATAR, T.AVATAR, "not a picture", result({"avatar": "aGVsbG8="})),
    # The directory
    ("knows contacts", DIRECTORY, T.RESULT, "not a list", result({"contacts": []})),
    ("knows too many", DIRECTORY, T.DIRECTORY, "11 entries, and the limit is 10", many),
    ("takes limits for ten", DIRECTORY, T.DIRECTORY, "and the limit is 1", lambda _: success([entry(), entry(alias="b@example.com")])),
    ("shuffles", DIRECTORY, T.DIRECTORY, "not sorted", when(lambda q: q.get("limit") == "10", result([entry(alias="b", description="B", username="c"), entry(alias="c", description="C", username="a"), entry(alias="a", description="A", username="b")]))),
    ("knows no user names", DIRECTORY, T.DIRECTORY, "has no username", result([entry(username=...)])),
    ("has no descriptions", DIRECTORY, T.DIRECTORY, "description", result([entry(description=None)])),
    ("lists texts", DIRECTORY, T.DIRECTORY, "DirectoryEntry or its fields", result(["a@example.com"])),
    ("ignores by text", DIRECTORY, T.DIRECTORY, "ignore_local", lambda q: says({"status": "success", "result": entries(q), "ignore_local": "no"})),
    # Registrations
    ("wants a password of all", REGISTRATION, T.CREDENTIALS, "accepts only an empty result", result({"username": "a", "password": "b"})),
    ("knows no password", REGISTRATION, T.RESULT, "password: is required", result({"username": "a"})),
    ("has a number for a password", REGISTRATION, T.RESULT, "Credentials.password", result({"username": "a", "password": 1234})),
    ("stumbles over quotes", REGISTRATION, T.CONSISTENT, "quotes around auth_type", when(lambda q: '"' in q.get("auth_type"), result({}, "reject"))),
    # The same question
    ("names rooms at random", SERVICE, T.REPEATABLE, "name differs", lambda q: success(room(q, name=f"Room {q.number}"))),
    ("makes PINs at random", SERVICE, T.REPEATABLE, "pin differs", lambda q: success(room(q, pin=f"{q.number:04}"))),
    ("changes its mind", PARTICIPANT, T.REPEATABLE, "another action", lambda q: success(action="reject") if q.number % 2 else success({"bypass_lock": True})),
    ("wanders", LOCATION, T.REPEATABLE, "location differs", lambda q: success({"location": f"Room {q.number}"})),
    ("sometimes has a location", LOCATION, T.REPEATABLE, "continue", when(lambda q: q.number % 2, status(404))),
    ("repaints", AVATAR, T.REPEATABLE, "another picture", lambda q: jpeg(shade=q.number % 10 * 20)(q)),
    ("forgets people", DIRECTORY, T.REPEATABLE, "entries differs", lambda q: success(entries(q)[: q.number % 3])),
    ("makes passwords at random", REGISTRATION, T.REPEATABLE, "password differs", when(lambda q: q.get("auth_type") != "sso", lambda q: success({"username": "a", "password": str(q.number)}))),
    ("calls two rooms one", SERVICE, T.CONSISTENT, "differs from an earlier one", lambda q: success(room(q, name="Room", view="one_main_zero_pips" if q.get("protocol") == "sip" else "one_main_seven_pips")), (WEB, SIP)),
    ("tells blanks apart", SERVICE, T.CONSISTENT, "both a blank", lambda q: success(room(q, name=f"{q.get('local_alias')} {raw('location')(q)}")), (CODING,)),
    ("cares for new parameters", SERVICE, T.CONSISTENT, "adds parameters", lambda q: success(room(q, name=f"{q.get('local_alias')} {len(q.query)}")), (VALUES,)),
    ("dials out of another room", SERVICE, T.DIAL_OUT, "must match it", when(lambda q: q.get("call_direction") == "dial_out", vmr(name="Another")), (DIAL_OUT,)),
    # Breakout rooms
    ("has one breakout for all", SERVICE, T.BREAKOUT, "another breakout room is requested", when(lambda q: q.get("breakout_uuid"), lambda q: success(room(q, **block()))), (BREAKOUT,)),
    # Decoding
    ("decodes aliases twice", SERVICE, T.DECODING, "decoded twice", named(lambda q: unquote(q.get("local_alias"))), (CODING,)),
    ("takes a plus for a blank", SERVICE, T.DECODING, "became a blank", named(lambda q: q.get("local_alias").replace("+", " ")), (CODING,)),
    ("decodes no aliases", SERVICE, T.DECODING, "not decoded", named(raw("local_alias")), (CODING,)),
    ("reads aliases as Latin-1", SERVICE, T.DECODING, "Latin-1", named(latin("local_alias")), (CODING,)),
    ("reads names as ASCII", PARTICIPANT, T.DECODING, "something else", about(lambda q: q.get("remote_display_name").encode("ascii", "replace").decode().replace("?", "\N{REPLACEMENT CHARACTER}")), (CODING,)),
    ("leaves the plus in names", PARTICIPANT, T.DECODING, "is a blank", about(lambda q: unquote(raw("remote_display_name")(q))), (CODING,)),
    ("reads a form in the path", REGISTRATION, T.DECODING, "became a blank", tagged(lambda q: unquote_plus(q.raw_alias)), (PATHS,)),
    ("decodes the path twice", REGISTRATION, T.DECODING, "decoded twice", tagged(lambda q: unquote(q.alias)), (PATHS,)),
    ("does not decode the path", REGISTRATION, T.DECODING, "not decoded", tagged(lambda q: q.raw_alias), (PATHS,)),
)

# fmt: on

FAULTS = tuple(Fault(*row) for row in ROWS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
async def test_a_server_that(fault: Fault) -> None:
    async with serving(fault) as url:
        violations = found(await run_flows(url, fault.played))
    assert {f.topic for f in violations} == {fault.topic}, violations
    assert any(fault.says in f.text for f in violations), violations


def test_no_two_faults_share_a_name() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
