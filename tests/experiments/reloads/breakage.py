"""Broken files offered for reload: each is refused or valid, and something serves all the time."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pexpolicy.server.reload.control_socket import ask_for_reload
from tests.support import live_server, wire

SOUND = b"""\
[server]
budget = 3.5
[auth]
user = "pexip"
password_file = "password.txt"
[audit]
path = "audit.jsonl"
[endpoints.registration_alias]
default = "reject"
[infinity]
locations = ["Oslo", "Bergen"]
[plugins.domains]
priority = 10
on_error = "reject"
[plugins.domains.settings]
allowed = ["@example.com"]
[plugins.rooms]
priority = 20
timeout = 0.5
[plugins.rooms.settings]
default_room = "Default Room - {local_alias}"
[plugins.rooms.settings.rooms."sip:room@example.com"]
name = "Engineering Room"
service_tag = "engineering-room"
description = "caf\xc3\xa9"
"""
PASSWORD = "canary-8f0c"


@dataclass
class Broken:
    """What came of the files; ``wrong`` says what should not have been."""

    refused: int = 0
    valid: int = 0
    wrong: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"{self.refused + self.valid:,} broken files: {self.refused:,} refused, "
            f"{self.valid:,} valid all the same, {len(self.wrong)} wrong"
        )


def broken(seed: int) -> Iterator[bytes]:
    """Files without end: cut off at each byte first, then changed at random."""
    for length in range(len(SOUND)):
        yield SOUND[:length]
    chance = random.Random(seed)
    while True:
        content = bytearray(SOUND)
        for _ in range(chance.choice((1, 1, 2, 5, 20))):
            _change(content, chance)
        yield bytes(content)


def _change(content: bytearray, chance: random.Random) -> None:
    place, other = sorted(chance.randrange(len(content)) for _ in range(2))
    match chance.randrange(5):
        case 0:
            content[place] = chance.randrange(256)
        case 1:
            del content[place : place + chance.randrange(1, 20)]
        case 2:
            content[place:place] = content[other : other + chance.randrange(1, 40)]
        case 3:
            content[place:place] = chance.choice((b"[", b"]", b'"', b"=", b"\n", b"\x00", b"'''"))
        case _:
            content[place : place + 1] = chance.randbytes(3)


def offer(folder: Path, files: int, seed: int) -> Broken:
    """Offer so many broken files, every third of the truncations when there are few."""
    found = Broken()
    config = folder / "config.toml"
    config.write_bytes(SOUND)
    (folder / "password.txt").write_text(PASSWORD)
    with live_server.running(config) as server:
        in_force = _hash_in_force(server)
        for number, content in enumerate(_chosen(files, seed)):
            config.write_bytes(content)
            (result,) = ask_for_reload(config)
            if result is None:
                found.wrong.append(f"{number}: the server is gone")
                break
            if result.done:
                found.valid += 1
                in_force = result.config_hash
                # Whatever it was, the calls that follow need what they are asked with.
                config.write_bytes(SOUND)
                (again,) = ask_for_reload(config)
                in_force = again.config_hash if again is not None else ""
            else:
                found.refused += 1
                found.reasons[result.problems[0].partition(":")[0][:40]] += 1
            if (serving := _hash_in_force(server)) != in_force:
                found.wrong.append(f"{number}: {serving} serves instead of {in_force}")
    return found


def _chosen(files: int, seed: int) -> Iterator[bytes]:
    every = max(1, 2 * len(SOUND) // files)
    endless = enumerate(broken(seed))
    taken = 0
    while taken < files:
        number, content = next(endless)
        if number < len(SOUND) and number % every:
            continue
        taken += 1
        yield content


def _hash_in_force(server: live_server.Running) -> str:
    """The configuration by which a call is answered, as its audit line has it."""
    headers = wire.basic("pexip", PASSWORD)
    reply = server.ask(f"{wire.SERVICE}?local_alias=room@example.com", headers=headers)
    if reply.status != 200 or reply.result["name"] != "Engineering Room":
        return f"a reply of {reply.status}"
    return str(server.last_line()["config_hash"])
