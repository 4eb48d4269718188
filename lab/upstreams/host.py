"""The broken targets, in a process of their own: what they send costs the caller's loop no time.

``python -m lab.upstreams.host NUMBER...`` starts the targets of these kinds, prints
their URLs as JSON, and ends when its standard input does.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from lab.upstreams import servers
from lab.upstreams.broken import KINDS


@asynccontextmanager
async def hosted(numbers: Sequence[int]) -> AsyncIterator[list[str]]:
    """Start the process; gives the URLs, and ends it on leaving."""
    host = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, *map(str, numbers)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert host.stdin is not None
    assert host.stdout is not None
    try:
        urls: list[str] = json.loads(await host.stdout.readline())
        yield urls
    finally:
        host.stdin.close()
        await host.wait()


async def serve(numbers: Sequence[int]) -> None:
    """Serve the kinds of these numbers until standard input ends."""
    async with AsyncExitStack() as stack:
        kinds = [KINDS[number] for number in numbers]
        started = [await stack.enter_async_context(servers.behaving(k.behave)) for k in kinds]
        print(json.dumps([server.url for server in started]), flush=True)  # noqa: T201 - read by the parent process
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve([int(number) for number in sys.argv[1:]]))
