"""The circuit breaker of a target logs that it opens and closes."""

import asyncio
import logging
import socket

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from pexpolicy import Request
from pexpolicy.models.request import set_origin
from pexpolicy.testing import make_request
from pexpolicy_upstream.settings import TargetSettings
from pexpolicy_upstream.target import Target, TargetError

BREAKER = {"failures": 2, "window": 30.0, "pause": 10.0}
REPLY = {"status": "success", "action": "continue"}


def asked() -> Request:
    request = make_request("service_configuration", local_alias="a")
    set_origin(request, "/policy/v1/service/configuration?local_alias=a")
    return request


async def test_the_log_tells_when_the_breaker_of_a_target_opens_and_closes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    settings = TargetSettings.model_validate(
        {"url": f"http://127.0.0.1:{port}", "breaker": BREAKER}
    )
    target = Target("bookings", settings, None, None, lambda: now)
    request = asked()
    async with target.connected():
        for _ in range(5):
            with pytest.raises(TargetError):
                await target.ask("service_configuration", request, 1.0)
        (opened,) = caplog.messages
        assert opened.startswith("bookings: service_configuration: ")
        assert opened.endswith("; not asked for 10 s")

        async def answer(_: web.BaseRequest) -> web.Response:
            return web.json_response(REPLY)

        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        now = 10.0
        await target.ask("service_configuration", request, 1.0)
        await runner.cleanup()
        await asyncio.sleep(0)
    assert caplog.messages[1:] == [
        "bookings: service_configuration: it answers again, its circuit breaker closed"
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


async def test_a_late_reply_in_the_time_that_others_left_over_opens_no_breaker() -> None:
    """A frozen target took the rest of the time, and the next one is healthy."""

    async def never(_: web.BaseRequest) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with RawTestServer(never, shutdown_timeout=0) as server:
        url = str(server.make_url("/"))
        settings = TargetSettings.model_validate({"url": url, "breaker": BREAKER, "timeout": 4})
        target = Target("bookings", settings, None, None, lambda: 0.0)
        async with target.connected():
            for is_rest, state in (
                (True, "closed"),
                (True, "closed"),
                (False, "closed"),
                (False, "open for service_configuration"),
            ):
                with pytest.raises(TargetError, match="no whole reply in time"):
                    await target.ask("service_configuration", asked(), 0.01, is_rest=is_rest)
                assert target.status()["breaker"] == state
