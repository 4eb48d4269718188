"""Replies with a long field in their head, as of a content security policy, are read."""

from aiohttp import web
from aiohttp.test_utils import RawTestServer

from pexpolicy import Reject
from pexpolicy.conformance.http_client import connected
from pexpolicy.models.request import set_origin
from pexpolicy.testing import make_request
from pexpolicy_upstream.route import Target
from pexpolicy_upstream.settings import TargetSettings

TARGET = "/policy/v1/service/configuration?local_alias=a"
REJECT = {"status": "success", "action": "reject"}


async def answer(_: web.BaseRequest) -> web.Response:
    return web.json_response(REJECT, headers={"Content-Security-Policy": "x" * 60_000})


async def test_a_reject_with_a_long_field_in_its_head_is_read() -> None:
    async with RawTestServer(answer) as server:
        url = str(server.make_url("/"))
        target = Target("t", TargetSettings.model_validate({"url": url}))
        request = make_request("service_configuration", local_alias="a")
        set_origin(request, TARGET)
        async with target.connected():
            heard = await target.ask("service_configuration", request, 5.0)
        async with connected(url) as wire:
            reply = await wire.get(TARGET)
    assert isinstance(heard.decision, Reject)
    assert reply.failure == ""
