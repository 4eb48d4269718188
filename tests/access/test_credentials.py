"""HTTP Basic authentication of the nodes."""

import base64

import pytest
from pydantic import SecretStr

from pexpolicy.access.credentials import Credentials, pair_of
from pexpolicy.builder import build_policy
from pexpolicy.config.secrets import Credential
from pexpolicy.policy import Policy
from tests.support import wire
from tests.support.fake_plugins import Serve, settings


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def plain(user: str, password: str) -> Credentials:
    return Credentials([Credential(user, SecretStr(password))])


PAIR = encoded("pexip:s3cret")


@pytest.mark.parametrize("header", [f"Basic {PAIR}", f"basic {PAIR}", f"BASIC   {PAIR} "])
def test_the_right_pair_is_accepted_however_its_scheme_is_written(header: str) -> None:
    assert plain("pexip", "s3cret").is_verified(pair_of(header.encode()))


@pytest.mark.parametrize("password", ["a:b", ":", "pässwörd", "日本", " blank ", "x" * 100])
def test_a_password_may_hold_colons_blanks_and_any_letter(password: str) -> None:
    known = plain("pexip", password)
    assert known.is_verified(pair_of(b"Basic " + encoded(f"pexip:{password}").encode()))
    assert not known.is_verified(pair_of(b"Basic " + encoded(f"pexip:{password}x").encode()))


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


async def test_health_needs_no_credentials(serving: Serve, guarded: Policy) -> None:
    async with serving(guarded) as server:
        assert (await server.ask("/livez")).status == 200
