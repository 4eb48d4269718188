"""Redaction: names of removed values are written, the values are not."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from pexpolicy import Conference, Redirect
from pexpolicy.audit.redaction import Redaction
from pexpolicy.endpoints import ENDPOINTS
from tests.support import wire
from tests.support.fake_plugins import Serve, always, plugin
from tests.support.secret_canaries import PIN


def room(**fields: Any) -> Conference:
    return Conference(name="Room", service_tag="tag", **fields)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (f"{wire.SERVICE}?third_party_passcode={PIN}", "third_party_passcode"),
        (f"{wire.PARTICIPANT}?third_party_passcode={PIN}", "third_party_passcode"),
        (f"{wire.SERVICE}?pin={PIN}", "pin"),
        (f"{wire.LOCATION}?some_new_secret={PIN}", "some_new_secret"),
        (f"{wire.DIRECTORY}?password={PIN}&password={PIN}", "password"),
        (f"{wire.REGISTRATION}a@b?token={PIN}", "token"),
        (f"{wire.AVATAR}a?Third_Party_Passcode={PIN}", "Third_Party_Passcode"),
    ],
)
async def test_secrets_and_unknown_parameters_of_a_request_are_named_and_not_written(
    serving: Serve, target: str, name: str
) -> None:
    async with serving({}) as server:
        await server.ask(target)
        assert PIN not in server.audit.read_text()
        assert name in server.lines()[-1]["removed"]


@pytest.mark.parametrize(
    "answer",
    [
        {**room().set_fields(), "pin": PIN + "x"},
        {**room().set_fields(), "pin": {"is": PIN}},
        {"username": "u", "password": [PIN]},
    ],
)
async def test_secrets_of_an_answer_that_was_refused_are_not_written(
    serving: Serve, answer: dict[str, Any]
) -> None:
    endpoint = "registration_alias" if "password" in answer else "service_configuration"
    async with serving({"toy": plugin(**{endpoint: always(answer)})}) as server:
        await server.ask(wire.TARGETS[endpoint])
        assert server.steps() == [("toy", "invalid")]
        assert PIN not in server.audit.read_text()


async def test_a_name_of_a_parameter_may_be_anything(serving: Serve) -> None:
    async with serving({}) as server:
        await server.ask(wire.SERVICE + "?" + "%ED%B3%BF" + "x" * 5000 + "=1&=2&&%00=3")
        (line,) = server.lines()
        assert all(len(name) <= 100 for name in line["removed"])


URI = f"sip:alice:{PIN}@example.com"


@pytest.mark.parametrize(
    "target",
    [
        f"{wire.SERVICE}?local_alias={URI}&remote_alias=SIPS:a:{PIN}@b&call_direction=dial_in",
        f"{wire.SERVICE}?local_alias=alice:{PIN}@example.com",
        f"{wire.SERVICE}?local_alias=sip:sip:alice:{PIN}@example.com",
        f"{wire.SERVICE}?p_Asserted-Identity=" + quote(f'["A <{URI}>", "<{URI}>"]'),
        f"{wire.SERVICE}?idp_attribute_x={URI}&idp_attribute_x={URI}",
        f"{wire.REGISTRATION}{URI}",
        f"{wire.AVATAR}{quote(URI, safe='')}",
        f"/elsewhere/{quote(URI, safe='')}",
        f"/elsewhere/{URI}",
    ],
)
async def test_the_password_of_a_uri_is_not_written(serving: Serve, target: str) -> None:
    async with serving({}) as server:
        await server.ask(target)
        written = server.audit.read_text()
        assert PIN not in written
        assert "***" in written


@pytest.mark.parametrize(
    "decision",
    [
        Redirect(new_alias=URI),
        room(
            automatic_participants=[
                {"local_alias": "a", "remote_alias": URI, "protocol": "sip", "role": "guest"}
            ]
        ),
    ],
)
async def test_the_password_of_a_uri_in_a_reply_is_not_written(
    serving: Serve, decision: object
) -> None:
    async with serving({"toy": plugin(service_configuration=always(decision))}) as server:
        reply = await server.ask(wire.TARGETS["service_configuration"])
        assert PIN.encode() in reply.body
        assert PIN not in server.audit.read_text()


PASSWORDS = st.text("abcXYZ019!$&'()*+-._~%=;?/", min_size=4, max_size=12).map("pw-{}".format)
USERS = st.text("abc019.-_", max_size=8)
SCHEMES = st.sampled_from(["", "sip:", "SIPS:", "sip:sip:", "h323:"])
BEFORE = st.sampled_from(["", '"Alice" <', "<", " "])


@given(st.sampled_from(sorted(ENDPOINTS)), BEFORE, SCHEMES, USERS, PASSWORDS)
def test_no_password_of_a_uri_is_in_what_is_written(
    endpoint: str, before: str, scheme: str, user: str, password: str
) -> None:
    uri = f"{before}{scheme}{user}:{password}@example.com"
    params = MultiDict({"local_alias": uri, "remote_alias": uri, "call_tag": uri})
    written, _ = Redaction().request(endpoint, params, uri)
    assert password not in str(written)
    segment = quote(uri, safe="")
    assert quote(password, safe="") not in Redaction().path(f"/elsewhere/{segment}")


STREAM_KEY = "a-key-7GQ2"


@pytest.mark.parametrize("scheme", ["rtmp", "rtmps", "RTMPS"])
async def test_the_key_of_a_stream_is_not_written(serving: Serve, scheme: str) -> None:
    alias = f"{scheme}://live.example/app/{STREAM_KEY}"
    participant = {
        "local_alias": "a",
        "remote_alias": alias,
        "protocol": "rtmp",
        "role": "guest",
        "streaming": True,
    }
    room = {"name": "R", "service_tag": "", "service_type": "conference"}
    room_with_stream = {**room, "automatic_participants": [participant]}
    async with serving({"toy": plugin(service_configuration=always(room_with_stream))}) as server:
        reply = await server.ask(f"{wire.SERVICE}?local_alias=a")
        assert reply.result["automatic_participants"][0]["remote_alias"] == alias
        await server.ask(f"{wire.PARTICIPANT}?protocol=rtmp&remote_alias={quote(alias, safe='')}")
        await server.ask(f"{wire.PARTICIPANT}?protocol=rtmp&remote_alias=a&remote_alias={alias}")
        await server.ask(f"{wire.AVATAR}{quote(alias, safe='')}")
        replied, asked, twice, avatar = server.lines()
    assert STREAM_KEY not in str((replied, asked, twice, avatar))
    masked = f"{scheme}://live.example/***"
    assert replied["sent"]["automatic_participants"][0]["remote_alias"] == masked
    assert replied["removed"] == ["remote_alias"]
    assert asked["request"]["remote_alias"] == masked
    assert twice["request"]["remote_alias"] == ["a", masked]
    assert avatar["request"]["alias"] == masked
