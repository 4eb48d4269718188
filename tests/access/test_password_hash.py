"""Hashed passwords, several at once, and how seldom the slow hash is computed."""

import asyncio
import base64
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.access import credentials
from pexpolicy.access.credentials import Credentials, VerificationPool, VerificationQueueFull
from pexpolicy.builder import build_policy
from pexpolicy.cli.main import main
from pexpolicy.config.secrets import Credential, PasswordHash, SecretError
from pexpolicy.config.settings import ConfigError
from tests.support import fake_plugins, secret_canaries, wire
from tests.support.fake_plugins import Serve
from tests.support.waiting import HANG_S

# Written out: with a salt of chance, each worker of the test run would collect other names.
OLD = PasswordHash.parse(
    "$scrypt$ln=4,r=8,p=1$YSBzYWx0IG9mIGEgdGVzdA$Wgc5zRwfiHduhtr4rR5C9/3JGkLEV+Lbedvnr2DBs0o"
)
NEW = PasswordHash.create("new password", ln=4)


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The passwords that the slow hash was computed of."""
    seen: list[bytes] = []
    matches = PasswordHash.matches

    def counted(self: PasswordHash, password: bytes) -> bool:
        assert threading.current_thread() is not threading.main_thread()
        seen.append(password)
        return matches(self, password)

    monkeypatch.setattr(PasswordHash, "matches", counted)
    return seen


@given(st.text(min_size=1))
def test_a_hash_is_read_as_it_was_written_and_matches_its_password_alone(password: str) -> None:
    encoded = password.encode("utf-8", "surrogatepass")
    made = PasswordHash.create(encoded.decode("utf-8", "replace"), ln=2)
    read = PasswordHash.parse(str(made))
    assert read == made
    assert read.matches(encoded.decode("utf-8", "replace").encode())
    assert not read.matches(encoded + b"x")


def test_a_hash_of_a_known_password_has_the_known_digest() -> None:
    # RFC 7914, 12: scrypt of "pleaseletmein" with the salt "SodiumChloride".
    digest = bytes.fromhex(
        "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
        "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
    )
    parts = (base64.b64encode(part).decode().rstrip("=") for part in (b"SodiumChloride", digest))
    written = "$scrypt$ln=14,r=8,p=1$" + "$".join(parts)
    assert PasswordHash.parse(written).matches(b"pleaseletmein")


@pytest.mark.parametrize(
    "text",
    [
        "",
        secret_canaries.WORD,
        str(OLD)[:-8],
        str(OLD).replace("scrypt", "argon2id"),
        str(OLD).replace("ln=4", "ln=0"),
        str(OLD).replace("ln=4", "ln=30"),
        str(OLD).replace("r=8", "r=99"),
        str(OLD) + "$",
        f"$scrypt$ln=4,r=8,p=1$AAAAAAAAAAAAA${'A' * 43}",
        "$2b$12$abcdefghijklmnopqrstuv",
    ],
)
def test_what_is_no_hash_is_refused_without_being_shown(text: str) -> None:
    if "ln=30" in text or "r=99" in text:
        text = text.replace("ln=4", "ln=20")
    with pytest.raises(SecretError) as error:
        PasswordHash.parse(text)
    assert not text or text not in str(error.value)


@pytest.mark.parametrize(
    ("pair", "right"), [(b"pexip:old password", True), (b"pexip:guess", False)]
)
async def test_a_pair_is_hashed_once_and_then_compared_by_a_digest(
    hashes: list[bytes], pair: bytes, right: bool
) -> None:
    known = Credentials([Credential("pexip", OLD)])
    for _ in range(5):
        assert await known.verify(pair) is right
    assert len(hashes) == 1
    assert known.is_verified(pair) is right


async def test_a_wrong_attempt_costs_the_same_whatever_user_it_names(hashes: list[bytes]) -> None:
    known = Credentials([Credential("pexip", OLD), Credential("pexip", NEW), Credential("b", OLD)])
    costs = []
    for user in (b"pexip", b"b", b"nobody", b""):
        before = len(hashes)
        assert not await known.verify(user + b":guess")
        costs.append(len(hashes) - before)
    assert costs == [3, 3, 3, 3]


async def test_what_is_verified_while_others_wait_spares_them_the_slow_hash(
    hashes: list[bytes],
) -> None:
    known = Credentials([Credential("pexip", OLD)])
    pairs = [b"pexip:old password"] * 5 + [b"pexip:guess"] * 5
    found = await asyncio.gather(*(known.verify(pair) for pair in pairs))
    assert found == [True] * 5 + [False] * 5
    assert len(hashes) <= credentials.MAX_RUNNING


async def test_a_password_belongs_to_its_user() -> None:
    known = Credentials([Credential("pexip", OLD), Credential("other", NEW)])
    assert not await known.verify(b"other:old password")
    assert await known.verify(b"pexip:old password")
    assert not await known.verify(b"other:old password")


async def test_what_was_learned_outlives_a_configuration(hashes: list[bytes]) -> None:
    learned = VerificationPool()
    assert await Credentials([Credential("pexip", OLD)], learned).verify(b"pexip:old password")
    both = Credentials([Credential("pexip", NEW), Credential("pexip", OLD)], learned)
    assert both.is_verified(b"pexip:old password")
    assert len(hashes) == 1
    assert not Credentials([Credential("pexip", NEW)], learned).is_verified(b"pexip:old password")


async def _are_admitted(asked: Sequence[str], *, known: Sequence[str] = ()) -> list[bool]:
    """Whether these peers are admitted in turn, while guesses from other peers fill the queue."""
    learned = VerificationPool()
    learned.remember(known)
    checked = Credentials([Credential("pexip", OLD)], learned)
    admitted = []
    for number, peer in enumerate(asked):
        guesses = [
            asyncio.create_task(checked.verify(b"pexip:%d of %d" % (guess, number), f"{guess}"))
            for guess in range(200)
        ]
        await asyncio.sleep(0)
        try:
            pair = b"pexip:old password"
            admitted.append(await checked.verify(pair, peer))
        except VerificationQueueFull:
            admitted.append(False)
        refused = await asyncio.gather(*guesses, return_exceptions=True)
        assert sum(isinstance(one, VerificationQueueFull) for one in refused) >= 100
    learned.close()
    return admitted


async def test_a_known_peer_comes_before_guesses_from_any_number_of_others() -> None:
    assert await _are_admitted(["node"], known=["node"]) == [True]


async def test_a_pair_that_a_peer_sends_again_is_queued_after_guesses() -> None:
    assert await _are_admitted(["node", "other", "node"]) == [False, False, True]


async def test_calls_in_the_queue_are_refused_when_the_server_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = threading.Event()
    monkeypatch.setattr(PasswordHash, "matches", lambda *_: held.wait(HANG_S))
    learned = VerificationPool()
    known = Credentials([Credential("pexip", OLD)], learned)
    tasks = [asyncio.create_task(known.verify(b"pexip:old password")) for _ in range(3)]
    await asyncio.sleep(0.05)
    learned.close()
    held.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, VerificationQueueFull) for result in results] == [False, True, True]


async def test_old_and_new_password_are_both_good_during_a_change(
    serving: Serve, tmp_path: Path
) -> None:
    (tmp_path / "new.password").write_text(f"{NEW}\n")
    table = {
        "credentials": [
            {"user": "pexip", "password_hash": str(OLD)},
            {"user": "pexip", "password_hash_file": str(tmp_path / "new.password")},
        ]
    }
    async with serving(build_policy(fake_plugins.settings(auth=table), available={})) as server:
        for password, status in (("old password", 200), ("new password", 200), ("older", 401)):
            reply = await server.ask(wire.SERVICE, headers=wire.basic("pexip", password))
            assert reply.status == status


BROKEN: list[tuple[dict[str, object], str]] = [
    ({}, "auth: "),
    ({"password_env": "A"}, "auth: name the user"),
    (
        {"user": "p:q", "password_env": "A"},
        "auth.user: must not contain a colon or control characters",
    ),
    (
        {"credentials": [{"user": "a\tb", "password_env": "A"}]},
        "auth.credentials[0].user: must not contain a colon or control characters",
    ),
    ({"credentials": [{"user": "a"}]}, "auth.credentials[0]: write one of"),
    (
        {"credentials": [{"user": "a", "password_hash": "x", "password_env": "A"}]},
        "auth.credentials[0]: write one of",
    ),
    (
        {"credentials": [{"user": "a", "password_hash": secret_canaries.WORD}]},
        "auth.credentials[0].password_hash: is not a password hash",
    ),
    (
        {"credentials": [{"user": "a", "password_hash_file": "gone"}]},
        "auth.credentials[0].password_hash_file: gone cannot be read",
    ),
    (
        {"credentials": [{"user": "a", "password": secret_canaries.WORD, "password_env": "A"}]},
        "auth.credentials[0].password: unknown key; a secret is never in this file",
    ),
]


@pytest.mark.parametrize(("table", "said"), BROKEN)
def test_broken_credentials_are_reported_by_their_key(table: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        fake_plugins.settings(auth=table)
    assert said in str(error.value)
    assert secret_canaries.WORD not in str(error.value)


@pytest.mark.parametrize("given", ["s3cret\ns3cret\n", "s3cret\r\ns3cret\r\n", "\ns3cret"])
def test_the_command_refuses_several_lines(given: str) -> None:
    said = CliRunner().invoke(main, ["hash-password"], input=given)
    assert (said.exit_code, said.stdout) == (2, "")
    assert "one line of UTF-8 text" in said.stderr
    assert "s3cret" not in said.output


@pytest.mark.parametrize(
    ("given", "warns"), [("sev3n 7\r\n", True), ("sev3n 7\n", True), ("eight 8 \n", False)]
)
def test_the_command_prints_a_hash_and_warns_of_a_short_password(given: str, warns: bool) -> None:
    said = CliRunner().invoke(main, ["hash-password"], input=given)
    assert said.exit_code == 0
    password = given.rstrip("\r\n")
    assert PasswordHash.parse(said.stdout).matches(password.encode())
    assert password not in said.output
    assert ("the password is shorter than 8 characters" in said.stderr) is warns


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("pexpolicy-verify"):
            thread.join(5)
            assert not thread.is_alive()
