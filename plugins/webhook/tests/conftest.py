"""A receiver of events on loopback, and the plugin that sends to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pexpolicy_webhook import sender
from pexpolicy_webhook.plugin import Webhook
from pexpolicy_webhook.sender import WebhookSettings
from tests.support.webhook import Opened, Receiver


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_post("/events", made.handle)
    async with TestServer(app, shutdown_timeout=0.1) as server:
        made.url = str(server.make_url("/events"))
        yield made


@pytest.fixture
def opened(tmp_path: Path, receiver: Receiver) -> Opened:
    """Opens the plugin with these settings."""

    @asynccontextmanager
    async def open_plugin(**settings: Any) -> AsyncIterator[Webhook]:
        document = {"url": receiver.url, "spool": str(tmp_path / "spool"), **settings}
        plugin = Webhook(WebhookSettings.model_validate(document))
        async with plugin.lifespan():
            yield plugin

    return open_plugin


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "MIN_PAUSE_S", 0.01)
    monkeypatch.setattr(sender, "MAX_PAUSE_S", 0.05)
    monkeypatch.setattr(sender, "ADOPT_S", 0.05)
