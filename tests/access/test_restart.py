"""Nodes are admitted soon after a restart, whatever others guess meanwhile."""

import asyncio
import itertools
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pexpolicy.audit.reader import recent_peers
from pexpolicy.config.secrets import PasswordHash
from tests.support import live_server, wire

pytestmark = pytest.mark.slow

GOOD = wire.basic("pexip", "s3cret")
GUESSES = 300
"""A second."""
PATIENCE = 20.0
"""Verifications of a password, each 0.1 s on an idle machine, within which a node is admitted."""


def configured(folder: Path) -> Path:
    config = folder / "config.toml"
    config.write_text(f"""
[[auth.credentials]]
user = "pexip"
password_hash = "{PasswordHash.create("s3cret")}"

[audit]
path = "audit.jsonl"
""")
    return config


async def guess(port: int, number: int, password: int) -> None:
    """One wrong password of the right user, from an address of its own."""
    address = f"127.{1 + number // 65025}.{1 + number // 255 % 255}.{1 + number % 255}"
    with suppress(OSError, EOFError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        try:
            headers = wire.basic("pexip", f"guess {password}")
            writer.write(wire.request_bytes(wire.SERVICE, "GET", headers))
            await reader.read()
        finally:
            writer.close()


async def guessing(port: int, times: int) -> None:
    """Guess; each password ``times`` times."""
    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            group.create_task(guess(port, number, number // times))
            await asyncio.sleep(1 / GUESSES)


def verification() -> float:
    """Seconds that one verification takes on this machine now."""
    began = time.monotonic()
    PasswordHash.create("s3cret")
    return time.monotonic() - began


async def admitted_after(server: live_server.Running, times: int = 1) -> float:
    """Verifications until a node is admitted that asks again when it is not.

    They are measured while it waits, since other work of the machine delays both.
    """
    attack = asyncio.create_task(guessing(server.port, times))
    await asyncio.sleep(1.5)
    began = time.monotonic()
    try:
        while time.monotonic() - began < 30:
            with suppress(TimeoutError):
                reply = await asyncio.to_thread(server.ask, wire.SERVICE, headers=GOOD)
                if reply.status == 200:
                    break
        took = time.monotonic() - began
        return took / await asyncio.to_thread(verification)
    finally:
        attack.cancel()
        await asyncio.gather(attack, return_exceptions=True)


async def expect_admission(config: Path, limit: float, times: int = 1) -> None:
    """Start a server that admits a node within so many verifications.

    On a busy machine one start may be unlucky.
    """
    took = 0.0
    for _ in range(2):
        with live_server.running(config) as server:
            if (took := await admitted_after(server, times)) < limit:
                return
    pytest.fail(f"admitted after {took:.1f} verifications")


async def test_a_node_of_the_life_before_is_admitted_at_once(tmp_path: Path) -> None:
    config = configured(tmp_path)
    with live_server.running(config) as server:
        assert server.ask(wire.SERVICE, headers=GOOD).status == 200
    assert recent_peers(server.audit) == {"127.0.0.1"}
    await expect_admission(config, PATIENCE)


@pytest.mark.parametrize("times", [1, 15])
async def test_a_node_is_admitted_soon_by_a_server_that_knows_none(
    tmp_path: Path, times: int
) -> None:
    await expect_admission(configured(tmp_path), 2 * PATIENCE, times)


@pytest.mark.parametrize(
    "line",
    [
        '{"event":"refused","peer":"192.0.2.9"}',
        r'{"request":"\"event\":\"decision\",\"decision_id\":\"\",\"peer\":\"192.0.2.9\""}',
        "",
    ],
)
def test_only_peers_of_decisions_are_known(tmp_path: Path, line: str) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text(f"{line}\n")
    assert recent_peers(path) == set()


def test_peers_are_found_in_the_file_that_was_rotated_last(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    decision = (
        '{"timestamp":"2026-11-26T00:00:00Z","event":"decision","decision_id":'
        '"019abcde-0000-7000-8000-000000000000","endpoint":"media_location","peer":"%s"}\n'
    )
    (tmp_path / "audit.jsonl.20261126T010203123456Z").write_text(decision % "10.0.0.1")
    assert recent_peers(path) == {"10.0.0.1"}
    path.write_text(decision % "10.0.0.2")
    assert recent_peers(path) == {"10.0.0.1", "10.0.0.2"}
