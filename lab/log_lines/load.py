"""Load from a separate process: ``python -m lab.log_lines.load PORT CALLS`` prints
status and seconds of each call as JSON.
"""

import asyncio
import json
import sys

from lab.chaos.load import Connection
from tests.support import wire

CONNECTIONS = 16


async def load(port: int, calls: int) -> list[tuple[int, float]]:
    """Make the calls on connections that are always busy."""
    made: list[tuple[int, float]] = []

    async def ask(count: int) -> None:
        connection = Connection(port)
        for _ in range(count):
            call = await connection.ask("", f"{wire.SERVICE}?local_alias=room")
            made.append((call.status, round(call.seconds, 6)))
        connection.close()

    await asyncio.gather(*(ask(calls // CONNECTIONS) for _ in range(CONNECTIONS)))
    return made


if __name__ == "__main__":
    json.dump(asyncio.run(load(*map(int, sys.argv[1:]))), sys.stdout)
