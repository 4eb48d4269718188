"""Reloads of broken files: each is refused or valid, and the server always answers."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

from lab.report import Finding
from pexpolicy.server.reload_triggers import ask_for_reload
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


def broken(seed: int) -> Iterator[bytes]:
    """Yield files without end: first truncated at each byte, then changed at random."""
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


async def offer(folder: Path, files: int, seed: int) -> Finding:
    """Reload ``files`` broken files, with fewer truncations if there are few."""
    return await asyncio.to_thread(_offer, folder, files, seed)


def _offer(folder: Path, files: int, seed: int) -> Finding:
    finding, refused = Finding("broken files", f"{files:,} files, seed {seed}"), 0
    config = folder / "config.toml"
    config.write_bytes(SOUND)
    (folder / "password.txt").write_text(PASSWORD)
    with live_server.running(config) as server:
        active = _active_hash(server)
        for number, content in enumerate(_chosen(files, seed)):
            config.write_bytes(content)
            (result,) = ask_for_reload(config)
            if result is None:
                finding.wrong.append(f"{number}: the server is gone")
                break
            refused += not result.done
            if result.done:
                active = result.policy_hash
                # The following calls need the credentials of the sound configuration.
                config.write_bytes(SOUND)
                (again,) = ask_for_reload(config)
                active = again.policy_hash if again is not None else ""
            serving = _active_hash(server)
            finding.expect(serving == active, f"{number}: {serving} serves instead of {active}")
            finding.answered += 1
    finding.notes.append(f"{refused:,} refused")
    finding.expect(refused > files // 2, "most files were accepted")
    return finding


def _chosen(files: int, seed: int) -> Iterator[bytes]:
    every = max(1, 2 * len(SOUND) // files)
    endless = enumerate(broken(seed))
    count = 0
    while count < files:
        number, content = next(endless)
        if number < len(SOUND) and number % every:
            continue
        count += 1
        yield content


def _active_hash(server: live_server.Running) -> str:
    """Return the hash of the configuration that answers a call, from its audit line."""
    headers = wire.basic("pexip", PASSWORD)
    reply = server.ask(f"{wire.SERVICE}?local_alias=room@example.com", headers=headers)
    if reply.status != 200 or reply.result["name"] != "Engineering Room":
        return f"a reply of {reply.status}"
    return str(server.last_line()["policy_hash"])
