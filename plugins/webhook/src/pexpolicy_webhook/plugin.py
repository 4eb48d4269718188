"""Plugin class of ``webhook``: writes each decision to the spool, which the sender delivers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from pexpolicy import ConfigWarning, Outcome, Plugin, Problem, SettingsError
from pexpolicy.config.outgoing import is_encrypted, revealed
from pexpolicy.conformance.replies import client_session
from pexpolicy_webhook.sender import Sender, WebhookSettings, event_of, signing_key
from pexpolicy_webhook.spool import Spool

IDLE_S = 30.0
"""Seconds that an unused connection is kept."""

T = TypeVar("T")


class Webhook(Plugin[WebhookSettings]):
    """Sends each decision to an HTTP server as a CloudEvent."""

    def __init__(self, settings: WebhookSettings) -> None:
        super().__init__(settings)
        problems: list[Problem] = []

        def read(make: Callable[..., T], *arguments: Any) -> T | None:
            try:
                return make(*arguments)
            except SettingsError as error:
                problems.extend(error.problems)
                return None

        self._key = read(_signing_key, settings)
        self._tls = read(settings.tls)
        if problems or self._tls is None:
            raise SettingsError(problems=problems)
        self._endpoints = frozenset(settings.endpoints)
        self._spool: Spool | None = None
        self._sender: Sender | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open the spool and send what is in it."""
        settings = self.settings
        self._loop = asyncio.get_running_loop()
        self._spool = await asyncio.to_thread(Spool, settings.spool, settings.spool_mb << 20)
        assert self._tls is not None
        connector = aiohttp.TCPConnector(ssl=self._tls, keepalive_timeout=IDLE_S)
        try:
            timeout = aiohttp.ClientTimeout(total=settings.timeout)
            async with client_session(connector, timeout) as session:
                self._sender = Sender(settings, self._spool, session, self._key)
                task = asyncio.create_task(self._sender.run())
                try:
                    yield
                    await self._sender.finish()
                finally:
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
        finally:
            await asyncio.to_thread(self._spool.close)

    def on_decisions(self, outcomes: Sequence[Outcome]) -> None:
        """Write the events to the spool; raises ``SpoolFullError``, so that they are kept."""
        assert self._spool is not None
        assert self._sender is not None
        assert self._loop is not None
        source = self.settings.source
        wanted = self._endpoints
        events = [event_of(o, source) for o in outcomes if not wanted or o.endpoint in wanted]
        if events:
            self._spool.append(events)
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._sender.wake)

    async def status(self) -> Mapping[str, object]:
        """Return what is delivered and what waits, of this process."""
        sender, spool = self._sender, self._spool
        if sender is None or spool is None:
            return {}
        status: dict[str, object] = {
            "receiver": URL(self.settings.url).host,
            "delivered": sender.delivered,
            "refused": sender.refused,
            "pending_bytes": spool.pending,
            "spool_bytes": spool.used,
        }
        if sender.failing_since is not None:
            status["failing_for_s"] = round(time.monotonic() - sender.failing_since, 1)
            status["problem"] = sender.problem
        return status

    def config_warnings(self) -> Iterable[ConfigWarning]:
        """Warn of events that are readable on the network or that anyone could forge."""
        if not is_encrypted(self.settings.url):
            text = "the events leave this machine unencrypted: write https://"
            yield ConfigWarning(("url",), text)
        if self._key is None and not self.settings.authorization():
            text = (
                "there is neither secret_file, token_file nor password_file: the receiver cannot "
                "tell these events from forged ones"
            )
            yield ConfigWarning((), text)


def _signing_key(settings: WebhookSettings) -> bytes | None:
    try:
        return None if settings.secret is None else signing_key(revealed(settings.secret))
    except ValueError as error:
        key = "secret_env" if "secret_env" in settings.model_fields_set else "secret_file"
        raise SettingsError(str(error), key=key) from None
