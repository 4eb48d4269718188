"""HTTP Basic authentication of the nodes."""

import base64
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pexpolicy.access.credentials import Credentials, pair_of
from pexpolicy.builder import build_policy
from pexpolicy.config.credentials import Credential
from pexpolicy.policy import Policy
from tests.support import wire
from tests.support.fake_plugins import Serve, settings


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def plain(user: str, password: str) -> Credentials:
    return Credentials([Credential(user, SecretStr(password))])


PAIR = encoded("pexip:s3cret")


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (f"Basic {PAIR}", True),
        (f"basic {PAIR}", True),
        (f"BASIC   {PAIR} ", True),
        ("", False),
        ("Basic", False),
        ("Basic ", False),
        (PAIR, False),
        (f"Bearer {PAIR}", False),
        (f"Basic {PAIR}x", False),
        (f"Basic {PAIR[:-1]}", False),
        ("Basic " + encoded("pexip:s3cre"), False),
        ("Basic " + encoded("pexip:s3cret "), False),
        ("Basic " + encoded("pexip:S3CRET"), False),
        ("Basic " + encoded("Pexip:s3cret"), False),
        ("Basic " + encoded("pexip"), False),
        ("Basic " + encoded("pexip:"), False),
        ("Basic " + encoded(":s3cret"), False),
        ("Basic " + encoded(""), False),
        ("Basic ÿÿÿÿ", False),
        ("Basic \udcff\udcfe", False),
        ("Basic " + "A" * 8000, False),
    ],
)
def test_only_the_right_pair_is_accepted(header: str, accepted: bool) -> None:
    assert plain("pexip", "s3cret").is_verified(pair_of(header)) is accepted


@pytest.mark.parametrize("password", ["a:b", ":", "pässwörd", "日本", " blank ", "x" * 100])
def test_a_password_may_hold_colons_blanks_and_any_letter(password: str) -> None:
    known = plain("pexip", password)
    assert known.is_verified(pair_of("Basic " + encoded(f"pexip:{password}")))
    assert not known.is_verified(pair_of("Basic " + encoded(f"pexip:{password}x")))


def test_the_password_does_not_stand_in_the_object() -> None:
    known = plain("pexip", "s3cret")
    assert "s3cret" not in repr(known) + str(vars(known))


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Policy:
    monkeypatch.setenv("TEST_POLICY_PASSWORD", "s3cret")
    table = {"user": "pexip", "password_env": "TEST_POLICY_PASSWORD"}
    return build_policy(settings(auth=table), available={})


@pytest.mark.parametrize("target", wire.TARGETS.values(), ids=wire.TARGETS)
@pytest.mark.parametrize(
    "headers", [{}, wire.basic("pexip", "wrong"), wire.basic("other", "s3cret")]
)
async def test_without_credentials_the_reply_reveals_nothing(
    serving: Serve, guarded: Policy, target: str, headers: dict[str, str]
) -> None:
    async with serving(guarded) as server:
        reply = await server.ask(target, headers=headers)
        assert (reply.status, reply.body) == (401, b"")
        assert reply.headers["www-authenticate"].startswith("Basic ")
        (line,) = server.lines()
        assert (line["event"], line["reason"]) == ("refused", "unauthorised")
        assert (line["status"], line["peer"]) == (401, "127.0.0.1")
        assert "wrong" not in server.audit.read_text()
        assert "request" not in line


async def test_with_the_credentials_every_endpoint_answers(serving: Serve, guarded: Policy) -> None:
    async with serving(guarded) as server:
        for target in wire.TARGETS.values():
            reply = await server.ask(target, headers=wire.basic("pexip", "s3cret"))
            assert reply.headers["content-type"] == "application/json"
        assert {line["event"] for line in server.lines()} == {"decision"}
        assert "s3cret" not in server.audit.read_text()


async def test_right_headers_are_decoded_once_and_others_each_time(
    serving: Serve, guarded: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[bytes] = []
    is_verified = Credentials.is_verified

    def note(credentials: Credentials, pair: bytes) -> bool:
        verified.append(pair)
        return is_verified(credentials, pair)

    monkeypatch.setattr(Credentials, "is_verified", note)
    right, wrong = wire.basic("pexip", "s3cret"), wire.basic("pexip", "guess")
    async with serving(guarded) as server:
        for headers, status in ((right, 200), (wrong, 401), (right, 200), ({}, 401), (right, 200)):
            assert (await server.ask(wire.SERVICE, headers=headers)).status == status
    assert verified.count(b"pexip:s3cret") == 1
    assert b"pexip:guess" in verified


async def test_health_needs_no_credentials(serving: Serve, guarded: Policy) -> None:
    async with serving(guarded) as server:
        assert (await server.ask("/livez")).status == 200


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
async def test_the_password_may_stand_in_a_file(
    serving: Serve, tmp_path: Path, ending: str
) -> None:
    password = tmp_path / "password.txt"
    password.write_bytes(b"s3cret" + ending.encode())
    table: dict[str, Any] = {"user": "pexip", "password_file": str(password)}
    async with serving(build_policy(settings(auth=table), available={})) as server:
        right = await server.ask(wire.SERVICE, headers=wire.basic("pexip", "s3cret"))
        assert right.status == 200
