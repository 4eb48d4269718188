"""Password guessing on many connections while nodes call."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lab.chaos.access.nodes import Calling, Calls, Node
from tests.support import live_server, wire


@dataclass
class GuessingResult:
    """Calls of nodes at other addresses and at an attacker's, and the answered guesses."""

    elsewhere: Calls
    same_address: Calls
    guesses: int
    admitted: int
    seconds: float
    on_record: int = 0

    def wrong(self) -> list[str]:
        """Return a description of each failure."""
        wrong = self.elsewhere.wrong() + self.same_address.wrong()
        if self.admitted:
            wrong.append(f"{self.admitted} guesses were admitted")
        if self.on_record < self.guesses:
            wrong.append(f"{self.guesses} guesses were answered and {self.on_record} are on record")
        return wrong

    @property
    def sentence(self) -> str:
        """Return all figures in one line."""
        return (
            f"{self.guesses} guesses answered in {self.seconds:.0f} s, "
            f"{self.guesses / self.seconds:.0f} a second from all attackers; nodes at the address "
            f"of an attacker: {self.same_address.sentence}; elsewhere: {self.elsewhere.sentence}"
        )


async def _guess(port: int, address: str, ends: float, answered: list[int]) -> None:
    """Guess on one connection after another, as fast as replies arrive."""
    number = 0
    while time.perf_counter() < ends:
        with suppress(OSError, EOFError, ValueError, TimeoutError):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=(address, 0)
            )
            try:
                while (left := ends - time.perf_counter()) > 0:
                    number += 1
                    credentials = wire.basic("pexip", f"guess {number}")
                    headers = {"Connection": "keep-alive", **credentials}
                    writer.write(wire.request_bytes(wire.SERVICE, "GET", headers))
                    async with asyncio.timeout(left):
                        head = await reader.readuntil(b"\r\n\r\n")
                    answered.append(wire.parse(head).status)
            finally:
                writer.close()


async def guess_passwords(
    server: live_server.Running, seconds: float, connections: int, headers: dict[str, str]
) -> GuessingResult:
    """Guess from two addresses, one of them a node's, on ``connections`` connections each."""
    answered: list[int] = []
    same_address = [
        Node(server.port, headers, address="127.0.0.7", reuses=reuses) for reuses in (True, False)
    ]
    elsewhere = [Node(server.port, headers) for _ in range(3)]
    async with Calling(elsewhere) as far, Calling(same_address) as near:
        began = time.perf_counter()
        await asyncio.gather(
            *(
                _guess(server.port, address, began + seconds, answered)
                for address in ("127.0.0.7", "127.0.0.8")
                for _ in range(connections)
            )
        )
        took = time.perf_counter() - began
    return GuessingResult(far, near, len(answered), answered.count(200), took)


def count_recorded(lines: list[dict[str, Any]]) -> int:
    """Count the guesses in the audit lines."""
    reasons = ("unauthorised", "too many attempts")
    return sum(line.get("times", 1) for line in lines if line.get("reason") in reasons)
