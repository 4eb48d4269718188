"""The four paths of the listener for operators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import orjson
from aiohttp import hdrs, web

from pexpolicy.admin.bearer import admits
from pexpolicy.admin.status import Status
from pexpolicy.endpoints.base import JSON
from pexpolicy.faults import Log, blame
from pexpolicy.metrics.board import Board
from pexpolicy.metrics.telemetry import Telemetry
from pexpolicy.policy import Policy
from pexpolicy.response import READABLE, TEXT, WholeResponse, health, not_allowed

OPEN = ("/livez", "/readyz")
"""Paths that tell no more than yes or no, and that need no token."""
GUARDED = ("/status", "/metrics")


class Admin:
    """Answers operators. Call it with a request; ``policy`` gives the policy that is in force."""

    def __init__(self, policy: Callable[[], Policy], telemetry: Telemetry, log: Log) -> None:
        self._policy = policy
        self._status = Status(policy, telemetry)
        self._telemetry = telemetry
        self._log = log
        # Rendering is some milliseconds that no call has to wait for.
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="pexpolicy-metrics")

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to a request of any kind."""
        path = request.rel_url.raw_path
        if path not in (*OPEN, *GUARDED):
            paths = "\n".join((*OPEN, *GUARDED))
            return WholeResponse(404, TEXT, f"here are\n{paths}\n".encode())
        if request.method not in READABLE:
            return not_allowed()
        if path in GUARDED and not self._admits(request):
            return WholeResponse(401, "", b"", extra=b"\r\nWWW-Authenticate: Bearer")
        try:
            return await self._answer(path)
        except Exception as error:  # noqa: BLE001 - whoever watches must hear of it
            fault = blame(error)
            self._log.warning("internal fault", path=path, error=fault.summary)
            return WholeResponse(500, TEXT, f"{fault.summary}\n".encode())

    def _admits(self, request: web.BaseRequest) -> bool:
        token = self._policy().settings.admin_token
        return token is None or admits(
            token.get_secret_value(), request.headers.get(hdrs.AUTHORIZATION)
        )

    async def _answer(self, path: str) -> web.StreamResponse:
        if path in OPEN:
            return health(path, self._telemetry.sources.unready())
        self._telemetry.sampler.look()
        if path == "/status":
            told = await self._status.tell()
            return WholeResponse(200, JSON, orjson.dumps(told, option=orjson.OPT_INDENT_2))
        loop = asyncio.get_running_loop()
        kind, text = await loop.run_in_executor(self._renderer, _render, self._telemetry.board)
        return WholeResponse(200, kind, text)

    def close(self) -> None:
        """Answer no more."""
        self._status.close()
        self._renderer.shutdown(wait=False, cancel_futures=True)


def _render(board: Board) -> tuple[str, bytes]:
    # What renders is imported for the first scrape: a start does not wait for it.
    from pexpolicy.metrics.exposition import CONTENT_TYPE, expose  # noqa: PLC0415

    return CONTENT_TYPE, expose(board)
