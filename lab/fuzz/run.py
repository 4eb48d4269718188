"""A fuzz run: a server, a sender, and the findings."""

import asyncio
import itertools
import sys
import tempfile
import time
from pathlib import Path

from lab.fuzz.batch import Sender
from lab.fuzz.grammar import Grammar
from lab.fuzz.replies import Replies
from lab.fuzz.requests import PASSWORD, USER, FuzzCase, request
from lab.fuzz.tally import Tally
from tests.support import live_server

PASSWORD_ENV = "PEXPOLICY_FUZZ_PASSWORD"
CONFIG = f"""
[auth]
user = "{USER}"
password_env = "{PASSWORD_ENV}"

[audit]
path = "/dev/null"

[plugins.domains]
priority = 10
on_error = "reject"

[plugins.domains.settings]
allowed = ["@example.com", "@trusted.net", "*.example.org"]

[plugins.rooms]
priority = 20

[plugins.rooms.settings]
default_room = "Default Room - {{local_alias}}"

[plugins.rooms.settings.rooms."sip:engineering@example.com"]
name = "Engineering Room"
service_tag = "engineering-room"
"""
LAST = request(
    b"/policy/v1/registrations/a%40example.com?protocol=sip&auth_type=credentials",
    headers=b"Connection: close\r\n",
)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run(
    requests: int,
    seed: int = 1,
    seconds: float = 1800.0,
    connections: int = 32,
    timeout_s: float = 10.0,
) -> Tally:
    """Start a server, send all cases, check that it still serves; print the progress."""
    grammar = Grammar(seed)
    tally = Tally(grammar.token)
    log: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        config = Path(folder, "config.toml")
        config.write_text(CONFIG, "utf-8")
        secret = {PASSWORD_ENV: PASSWORD}
        with live_server.running(config, environment=secret, log=log) as server:
            until = time.monotonic() + seconds
            sender = Sender(grammar, server.port, requests, until, tally, timeout_s)
            asyncio.run(_send(sender, connections, server))
    text = "".join(log).encode()
    if b"Traceback" in text or tally.token in text:
        tally.finding("traceback or input in the server's own log", seen=text[-300:])
    return tally


async def _send(sender: Sender, connections: int, server: live_server.Running) -> None:
    tally, began, files = sender.tally, time.monotonic(), server.open_files
    tally.memory.append((0, server.memory))
    watch = asyncio.create_task(_watch(sender, server))
    try:
        await sender.send_all(connections)
    finally:
        watch.cancel()
    tally.elapsed = time.monotonic() - began
    tally.memory.append((tally.done, server.memory))
    await _check_after_run(server, tally, sender.timeout_s)
    tally.open_files = (files, server.open_files)


async def _watch(sender: Sender, server: live_server.Running) -> None:
    tally, began = sender.tally, time.monotonic()
    for tick in itertools.count(1):
        await asyncio.sleep(1.0)
        done, size = tally.done, server.memory
        tally.memory.append((done, size))
        if tick % 10 == 0:
            rate = done / (time.monotonic() - began)
            found = tally.findings.total()
            say(f"{done:>9,} of {sender.count:,}  {rate:,.0f}/s  {size:.0f} MiB  findings {found}")


async def _check_after_run(server: live_server.Running, tally: Tally, timeout_s: float) -> None:
    """Check that the server still answers."""
    reply = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(LAST)
            reply = await Replies(reader).next()
            writer.close()
    except (OSError, TimeoutError):
        pass
    if reply is None or reply.status != 200:
        seen = reply.head if reply else b""
        tally.finding("no good answer at the end", FuzzCase(LAST, "last"), seen)
