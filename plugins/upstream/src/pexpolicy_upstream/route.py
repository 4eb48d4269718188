"""Route: the calls that it is for, its targets, and the comparison of two of them."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import aiohttp

from pexpolicy import Continue, Decision, Redirect, Reject, Request
from pexpolicy.chain.circuit_breaker import CircuitBreaker
from pexpolicy.conformance.replies import (
    BARE,
    InvalidReplyError,
    Reply,
    UpstreamDecision,
    Wire,
    client_session,
    difference,
    read,
)
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.matching import Condition
from pexpolicy.models.contract import NO_EXTRAS, Extras
from pexpolicy_upstream.settings import TargetSettings

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

IDLE = 30.0
"""Seconds that an unused connection is kept."""
WINDOW = 16 * 1024
"""Bytes that wait for us on a connection. What has arrived is parsed in one go while all calls
wait, so a target that floods must not get a quarter of a megabyte in, as it would by default: six
connections full of "100 Continue" took 50 to 90 ms of one turn of the loop, and take 7.
"""


class CleanConnector(aiohttp.TCPConnector):
    """Connector that closes idle connections with unexpected data.

    A server that replies twice, or more than it announced, leaves bytes on a kept connection.
    aiohttp would take them for the reply to the next request, and a call would get the decision of
    another.
    """

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the signature is aiohttp's
    ) -> Connection:
        """Return a connection as in aiohttp, after closing unclean ones."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or not protocol.should_close:
                return connection
            connection.close()


def opened(limit: int, tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
    """Return a client for one target with at most ``limit`` connections."""
    connector = CleanConnector(
        limit=limit, ssl=tls or True, keepalive_timeout=IDLE, socket_factory=_narrow
    )
    return client_session(connector, aiohttp.ClientTimeout(total=None), skip_auto_headers=BARE)


def _narrow(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
    return made


MAX_REPLY = 1024 * 1024
"""Maximum bytes of a reply."""
UNAVAILABLE = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
"""Statuses that tell something about the server. Another 5xx may be a fault of one call."""
LARGE = 16 * 1024
"""Bytes above which a reply is parsed in a thread, so as not to block other calls."""
COUNTS = ("asked", "answered", "abstained", "failed", "left_alone")
GIVEN_UP = "no whole reply before the time for all targets was over"

Clock = Callable[[], float]
_LOG = logging.getLogger(__name__)


class TargetError(ConnectionError):
    """Raised when a target gave no usable reply; names target and reason."""


class Target:
    """One policy server; works while ``connected()`` is entered. Raises ``SettingsError``.

    Each endpoint has a circuit breaker: a server whose avatars fail still rejects calls. A 500
    does not count, nor another 5xx while other calls are answered: some servers fail at an odd
    alias.
    """

    def __init__(
        self,
        name: str,
        settings: TargetSettings,
        clock: Clock = time.monotonic,
        *,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        self.name = name
        self.timeout = settings.timeout
        self._settings = settings
        self._authorization = settings.authorization().get("Authorization")
        is_https = settings.url.startswith("https://")
        self._secure = settings.tls(verify=settings.verify) if is_https else None
        self._clock = clock
        self.extras = extras
        self._read = partial(read, by=name, extras=extras)
        breaker = settings.breaker
        self._breakers = {
            endpoint: CircuitBreaker(breaker.failures, breaker.window, breaker.pause)
            for endpoint in ENDPOINTS
        }
        self._window = breaker.window
        self._answered_at: dict[str, float] = {}
        self._wire: Wire | None = None
        self._counts = dict.fromkeys(COUNTS, 0)
        self._last_error = ""
        self._last_error_at: datetime | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Open the shared connections, and close them."""
        async with opened(self._settings.connections, self._secure) as session:
            self._wire = Wire(
                session,
                self._settings.url,
                authorization=self._authorization,
                limit=self.timeout,
                max_body=MAX_REPLY,
            )
            yield

    async def ask(
        self, endpoint: str, request: Request, left: float, *, is_rest: bool = False
    ) -> UpstreamDecision:
        """Return the target's decision within its timeout and ``left`` seconds.

        Raises ``TargetError``. A reply that breaks the contract came in time and opens no breaker:
        one bad room must not shut out the others. Nor does a reply that is late in the time that
        other targets left over, ``is_rest``: a frozen target must not shut out a healthy one.
        """
        assert self._wire is not None, "the target is not connected"
        if _climbs(request.raw_target):
            msg = f"{self.name} was not asked: the alias in the path leads to another path"
            raise TargetError(msg)
        if not self._breakers[endpoint].allows_call(self._clock()):
            self._counts["left_alone"] += 1
            raise TargetError(f"{self.name} was not asked: its circuit breaker is open")
        self._counts["asked"] += 1
        is_short = is_rest and left < self.timeout
        dead, wrong = None if is_short else True, GIVEN_UP
        try:
            reply = await self._wire.get(request.raw_target, min(self.timeout, left))
            dead = None if is_short and reply.late else self._is_dead(endpoint, reply)
            wrong = ""
            if len(reply.body) > LARGE:
                heard = await asyncio.to_thread(self._read, endpoint, request, reply)
            else:
                heard = self._read(endpoint, request, reply)
        except InvalidReplyError as error:
            wrong = error.reply.failure or str(error)
            raise TargetError(f"{self.name}: {wrong}") from None
        finally:
            self._note(endpoint, dead=dead, wrong=wrong)
        self._counts["abstained" if heard.decision is None else "answered"] += 1
        return heard

    def _is_dead(self, endpoint: str, reply: Reply) -> bool | None:
        """Return whether a target gives no replies, or only reports that it cannot."""
        if reply.failure:
            return True
        now = self._clock()
        if reply.status not in UNAVAILABLE and reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return None
        if reply.status not in UNAVAILABLE:
            self._answered_at[endpoint] = now
            return False
        answered = self._answered_at.get(endpoint)
        return None if answered is not None and now - answered <= self._window else True

    def _note(self, endpoint: str, *, dead: bool | None, wrong: str) -> None:
        """Count a reply; ``dead`` is ``None`` where it tells nothing about the target."""
        breaker, place = self._breakers[endpoint], f"{self.name}: {endpoint}"
        if dead is None:
            pass
        elif dead:
            if breaker.record_failure(self._clock()):
                _LOG.warning("%s: %s; not asked for %g s", place, wrong or GIVEN_UP, breaker.pause)
        elif breaker.record_success():
            _LOG.warning("%s: it answers again, its circuit breaker closed", place)
        if wrong:
            self._counts["failed"] += 1
            self._last_error = wrong
            self._last_error_at = datetime.now(UTC)

    def status(self) -> Mapping[str, object]:
        """Return the counters, and the last error."""
        error_at = self._last_error_at
        opened = [endpoint for endpoint, breaker in self._breakers.items() if breaker.is_open]
        return {
            **self._counts,
            "breaker": f"open for {', '.join(opened)}" if opened else "closed",
            "last_error": self._last_error,
            "last_error_at": error_at.isoformat(timespec="seconds") if error_at else "",
        }


def _climbs(target: str) -> bool:
    """Return whether a path has the segment ``.`` or ``..``, in any encoding.

    A device may want to register as ``..``, and many servers would make another path of it.
    """
    path = unquote(target.partition("?")[0]).replace("\\", "/")
    return not {".", ".."}.isdisjoint(path.split("/"))


MOST_PENDING = 64
"""Pending comparisons of one route; further calls are skipped and counted."""
MOST_KINDS = 50
"""Kinds of differences with a counter of their own."""


class Comparison:
    """Asks ``target`` what another one has answered, and keeps count of how they differ.

    It costs the caller nothing: it begins when the answer is given, in a task of its own.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._pending: set[asyncio.Task[None]] = set()
        self._counts = {"same": 0, "failed": 0, "left_out": 0}
        self._differing: Counter[str] = Counter()

    def begin(
        self, endpoint: str, request: Request, answered: Target, heard: UpstreamDecision
    ) -> None:
        """Start a comparison with a decision."""
        if len(self._pending) >= MOST_PENDING:
            self._counts["left_out"] += 1
            return
        task = asyncio.create_task(self._run(endpoint, request, answered, heard))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def finish(self) -> None:
        """Cancel pending comparisons."""
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)

    async def _run(
        self, endpoint: str, request: Request, answered: Target, heard: UpstreamDecision
    ) -> None:
        # The answer goes on its way first.
        await asyncio.sleep(0)
        try:
            other = await self._target.ask(endpoint, request, self._target.timeout)
        except TargetError as error:
            self._counts["failed"] += 1
            _LOG.warning("%s: not compared with %s: %s", endpoint, answered.name, error)
            return
        decisions = [one.decision or Continue() for one in (heard, other)]
        if decisions[0] == decisions[1]:
            self._counts["same"] += 1
            return
        what = difference(*decisions)
        is_counted = what in self._differing or len(self._differing) < MOST_KINDS
        self._differing[what if is_counted else "more"] += 1
        told = request.params.get("request_id") or other.decision_id or heard.decision_id
        which = f" (call {told})" if told else ""
        names = f"{answered.name} and {self._target.name}"
        _LOG.warning("%s: %s differ: %s%s", endpoint, names, what, which)

    def status(self) -> Mapping[str, object]:
        """Return how often the two agreed, and the counts of differences."""
        return {
            "compare_with": self._target.name,
            **self._counts,
            "differing": dict(self._differing),
        }


WITHOUT_RESULT = (Continue, Reject, Redirect)
"""Decisions without an override."""
LEAST = 0.005
"""Minimum seconds left for asking a target."""


class Route:
    """Asks its targets one after the other until one gives a usable reply."""

    def __init__(
        self,
        name: str,
        condition: Condition,
        targets: Sequence[Target],
        override: Mapping[str, Any],
        comparison: Comparison | None,
        *,
        passes_continue: bool,
    ) -> None:
        self.name = name
        self.condition = condition
        self.comparison = comparison
        self._targets = tuple(targets)
        self._override = override
        self._passes_continue = passes_continue
        self._extras = targets[0].extras

    async def ask(self, endpoint: str, request: Request, deadline: float) -> Decision | None:
        """Return the decision of the first target whose reply counts, ``None`` where it abstains.

        ``deadline`` is a monotonic time. Raises ``TargetError`` with what each target did, and
        ``DecisionError`` for a result that the override breaks.
        """
        wrong: list[str] = []
        for target in self._targets:
            left = deadline - time.monotonic()
            if left < LEAST:
                wrong.append(f"{target.name} was not asked: the time was over")
                break
            try:
                heard = await target.ask(endpoint, request, left, is_rest=bool(wrong))
            except TargetError as error:
                wrong.append(str(error))
                continue
            if self.comparison is not None:
                self.comparison.begin(endpoint, request, target, heard)
            return self._made_of(heard)
        raise TargetError("; ".join(wrong))

    def _made_of(self, heard: UpstreamDecision) -> Decision | None:
        decision = heard.decision
        if isinstance(decision, Continue) and not self._passes_continue:
            return None
        if not self._override or decision is None or isinstance(decision, WITHOUT_RESULT):
            return decision
        merged = {**decision.set_fields(), **self._override}
        made = type(decision).from_result(merged, reason=decision.reason, extras=self._extras)
        return made.with_warnings(*heard.repairs)
