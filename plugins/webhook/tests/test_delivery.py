"""Delivery: each event reaches the receiver, in order, whatever the receiver does meanwhile."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import ssl
import time
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from pexpolicy.conformance.replies import Reply
from pexpolicy.testing import ConfigError, make_policy
from pexpolicy_webhook.plugin import Webhook
from pexpolicy_webhook.sender import WebhookSettings
from tests.support.waiting import until
from tests.support.webhook import Opened, Receiver, outcomes

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


def ids(begin: int, end: int) -> list[str]:
    return [f"{number}" for number in range(begin, end)]


async def problem_of(plugin: Webhook) -> str:
    """Wait until a request failed, and return why."""
    for _ in range(400):
        if problem := (await plugin.status()).get("problem"):
            return str(problem)
        await asyncio.sleep(0.005)
    raise AssertionError


async def until_status(plugin: Webhook, **expected: object) -> None:
    """Wait until the status has these values."""
    status: Mapping[str, object] = {}
    for _ in range(400):
        status = await plugin.status()
        if {name: status[name] for name in expected} == expected:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(status)


async def test_a_structured_event_is_signed_and_has_the_audit_line(
    opened: Opened, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("WEBHOOK_TOKEN", "a-token")
    settings = {"secret_env": "WEBHOOK_SECRET", "token_env": "WEBHOOK_TOKEN", "source": "urn:a"}
    async with opened(**settings) as plugin:
        plugin.on_decisions(outcomes(1, 2))
        await receiver.has(1)
    ((headers, body),) = receiver.requests
    assert json.loads(body) == {
        "specversion": "1.0",
        "id": "1",
        "source": "urn:a",
        "type": "pexpolicy.decision",
        "subject": "media_location",
        "time": "2026-11-25T01:29:14.087017Z",
        "datacontenttype": "application/json",
        "data": {
            "timestamp": "2026-11-25T01:29:14.087017Z",
            "event": "decision",
            "peer": "127.0.0.1",
        },
    }
    assert headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert headers["authorization"] == "Bearer a-token"
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"k" * 32, content, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


async def test_batches_are_arrays_in_order(opened: Opened, receiver: Receiver) -> None:
    receiver.replies = [503]
    async with opened(batch=10) as plugin:
        plugin.on_decisions(outcomes(0, 25))
        assert await receiver.has(25) == ids(0, 25)
    sizes = [len(json.loads(body)) for _, body in receiver.requests]
    assert sizes == [10, 10, 10, 5]
    (first, _), (again, _), *_ = receiver.requests
    assert first["webhook-id"] == again["webhook-id"] == "0-10"
    assert first["content-type"] == "application/cloudevents-batch+json; charset=utf-8"
    assert "webhook-signature" not in first


@pytest.mark.parametrize("status", [301, 401, 403, 404, 408, 410, 429, 500, 503])
async def test_what_is_not_accepted_is_repeated(
    opened: Opened, receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.replies = [(status, {"Location": "/events"})] * 3
    async with opened() as plugin:
        plugin.on_decisions(outcomes(0, 3))
        assert await receiver.has(3) == ids(0, 3)
        await until_status(plugin, delivered=3)
    events = [record.getMessage().partition(" problem")[0] for record in caplog.records]
    assert events[0] == "the receiver accepts no events"
    assert len(events) == 2, "once, and when it accepts again"


async def test_a_frozen_receiver_is_asked_again(opened: Opened, receiver: Receiver) -> None:
    receiver.replies = [0, 0]
    async with opened(timeout=0.05) as plugin:
        plugin.on_decisions(outcomes(0, 2))
        assert await problem_of(plugin) == "no reply within 0.05 s"
        assert await receiver.has(2) == ids(0, 2)


async def test_retry_after_is_respected(opened: Opened, receiver: Receiver) -> None:
    receiver.replies = [(429, {"Retry-After": "1"})]
    loop = asyncio.get_running_loop()
    async with opened() as plugin:
        began = loop.time()
        plugin.on_decisions(outcomes(0, 1))
        await receiver.has(1)
    assert loop.time() - began >= 1.0


def test_retry_after_may_be_a_date() -> None:
    def seconds(text: str) -> float:
        return Reply(0.0, 429, {"Retry-After": text}).retry_after

    assert 90 < seconds(formatdate(time.time() + 100, usegmt=True)) <= 100
    assert seconds(formatdate(time.time() + 9e5, usegmt=True)) == seconds("900000") == 300
    for other in (formatdate(0, usegmt=True), "soon", "", "-1", "Wed, 99 Xyz 2026 0:0:0 GMT"):
        assert seconds(other) == 0.0
    assert Reply(0.0, 429).retry_after == 0.0


@pytest.mark.parametrize(("is_complete", "connections"), [(False, 3), (True, 1)])
async def test_an_accepted_request_is_not_repeated_whatever_its_body(
    opened: Opened, is_complete: bool, connections: int
) -> None:
    """After one in parts the connection is used again."""
    transports: list[object] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        await request.read()
        transport = request.transport
        assert transport is not None
        transports.append(transport)
        response = web.StreamResponse(headers={"Content-Length": "9"})
        await response.prepare(request)
        if not is_complete:
            transport.close()
            return response
        for part in (b"first", b"rest"):
            await response.write(part)
            await asyncio.sleep(0.01)
        return response

    app = web.Application()
    app.router.add_post("/events", handle)
    async with (
        TestServer(app, shutdown_timeout=0.1) as server,
        opened(url=str(server.make_url("/events"))) as plugin,
    ):
        plugin.on_decisions(outcomes(0, 3))
        await until_status(plugin, delivered=3)
    assert len(transports) == 3
    assert len(set(map(id, transports))) == connections


async def test_a_refused_event_is_dropped_alone_and_counted(
    opened: Opened, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.refuses = "7"
    async with opened(batch=10) as plugin:
        plugin.on_decisions(outcomes(0, 20))
        await receiver.has(19)
        await until_status(plugin, refused=1, delivered=19, pending_bytes=0)
    assert receiver.accepted == [*ids(0, 7), *ids(8, 20)]
    assert "an event is dropped reason='the receiver refused it: HTTP 422" in caplog.text


@pytest.mark.parametrize("batch", [1, 10])
@pytest.mark.parametrize("damaged", [0, 2])
async def test_an_event_damaged_by_a_power_failure_is_dropped_alone(
    opened: Opened, receiver: Receiver, tmp_path: Path, batch: int, damaged: int
) -> None:
    receiver.replies = [500] * 1000
    async with opened(batch=batch) as plugin:
        plugin.on_decisions(outcomes(0, 5))
    (segment,) = (tmp_path / "spool").glob("*.events")
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[damaged] = bytes(len(lines[damaged]) - 1) + b"\n"
    segment.write_bytes(b"".join(lines))
    receiver.replies = []
    async with opened(batch=batch) as plugin:
        await until_status(plugin, refused=1, delivered=4, pending_bytes=0)
    assert receiver.accepted == [number for number in ids(0, 5) if number != str(damaged)]


@pytest.mark.parametrize(
    "written", ['"1\\r\\nX-Evil: y"', '"1\\u0000"', '"\\u00e9"', "null", "[1]"]
)
async def test_an_id_that_no_header_can_hold_is_dropped_alone(
    opened: Opened, receiver: Receiver, tmp_path: Path, written: str
) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "0.events").write_text('{"id":' + written + "}\n")
    async with opened() as plugin:
        plugin.on_decisions(outcomes(0, 2))
        await until_status(plugin, refused=1, delivered=2, pending_bytes=0)
    assert receiver.accepted == ids(0, 2)


async def test_events_of_a_plugin_that_ended_are_delivered_by_the_next_one(
    opened: Opened, receiver: Receiver
) -> None:
    receiver.replies = [500] * 1000
    async with opened() as plugin:
        plugin.on_decisions(outcomes(0, 50))
    receiver.replies = []
    async with opened() as plugin:
        plugin.on_decisions(outcomes(50, 60))
        assert await receiver.has(60) == ids(0, 60)


async def test_two_instances_at_once_share_a_folder(opened: Opened, receiver: Receiver) -> None:
    receiver.replies = [500] * 5
    async with opened(batch=5) as first:
        first.on_decisions(outcomes(0, 50))
        async with opened(batch=5) as second:
            second.on_decisions(outcomes(50, 100))
            await receiver.has(100)
    assert sorted(receiver.accepted, key=int) == ids(0, 100)
    assert [i for i in receiver.accepted if int(i) < 50] == ids(0, 50)


async def test_only_the_wanted_endpoints_are_sent(opened: Opened, receiver: Receiver) -> None:
    async with opened(endpoints=["media_location"]) as plugin:
        plugin.on_decisions(outcomes(0, 1, "participant_properties"))
        plugin.on_decisions(outcomes(1, 2))
        assert await receiver.has(1) == ["1"]


async def test_tls_trusts_the_ca_file_alone(tmp_path: Path, receiver: Receiver) -> None:
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    app = web.Application()
    app.router.add_post("/events", receiver.handle)
    secure = TestServer(app, scheme="https")
    await secure.start_server(ssl=server_side)
    url = f"https://127.0.0.1:{secure.port}/events"
    document = {"url": url, "spool": str(tmp_path / "spool")}
    try:
        settings = {**document, "ca_file": str(tmp_path / "other.pem")}
        async with (made := Webhook(WebhookSettings.model_validate(settings))).lifespan():
            made.on_decisions(outcomes(0, 1))
            assert "CERTIFICATE_VERIFY_FAILED" in await problem_of(made)
        settings["ca_file"] = str(tmp_path / "ca.pem")
        async with Webhook(WebhookSettings.model_validate(settings)).lifespan():
            await receiver.has(1)
    finally:
        await secure.close()


async def test_a_name_that_cannot_be_looked_up_is_a_failure_and_ends_nothing(
    tmp_path: Path,
) -> None:
    settings = {"url": f"http://{'a' * 64}.example/", "spool": str(tmp_path / "spool")}
    webhook = Webhook(WebhookSettings.model_validate(settings))
    async with webhook.lifespan():
        webhook.on_decisions(outcomes(1, 2))
        assert "Unicode" in await problem_of(webhook)


def refused(**settings: Any) -> str:
    document = {"url": "https://a.example", "spool": "spool", **settings}
    with pytest.raises(ConfigError) as caught:
        make_policy(Webhook, config={"plugins": {"webhook": {"settings": document}}})
    return " ".join(map(str, caught.value.problems))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"url": "events"}, "settings.url: write a whole URL"),
        ({"secret_env": "NOT_SET_AT_ALL"}, "settings.secret_env: the environment variable"),
        ({"token_file": "no-such-file"}, "settings.token_file:"),
        ({"ca_file": "no-such-file.pem"}, "settings.ca_file: "),
        ({"batch": 0}, "settings.batch"),
        ({"bacth": 2}, "did you mean 'batch'"),
    ],
)
def test_mistakes_are_named_with_their_key(settings: dict[str, Any], text: str) -> None:
    assert text in refused(**settings)


@pytest.mark.parametrize(
    ("secret", "text"), [("short", "shorter than 16 bytes"), ("whsec_%%%", "is not base64")]
)
def test_a_weak_secret_is_refused(secret: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", secret)
    message = refused(secret_env="WEBHOOK_SECRET")
    assert text in message
    assert "%%%" not in message


def test_check_warns_of_what_can_be_read_and_forged() -> None:
    config = {
        "plugins": {"webhook": {"settings": {"url": "http://events.example", "spool": "spool"}}}
    }
    policy = make_policy(Webhook, config=config)
    texts = " ".join(str(warning) for warning in policy.warnings)
    assert "settings.url: the events leave this machine unencrypted" in texts
    assert "cannot tell these events from forged ones" in texts


async def test_a_full_spool_raises_so_that_the_queue_keeps_the_events(
    opened: Opened, receiver: Receiver
) -> None:
    receiver.replies = [500] * 100_000
    logging.getLogger("pexpolicy_webhook").setLevel(logging.ERROR)
    async with opened(spool_mb=1, batch=100) as plugin:
        for kept in range(0, 10_000, 100):
            events = outcomes(kept, kept + 100)
            if plugin._spool.used + len(events) * 400 > 1 << 20:
                break
            plugin.on_decisions(events)
        with pytest.raises(OSError, match="is full"):
            plugin.on_decisions(outcomes(kept, kept + 1000))
        receiver.replies = []
        assert await receiver.has(kept) == ids(0, kept)
        await until_status(plugin, delivered=kept, pending_bytes=0)

        def has_room() -> bool:
            plugin._spool.measure()
            return bool(plugin._spool.used <= 1 << 19)

        await until(has_room)
        plugin.on_decisions(outcomes(kept, kept + 100))
        assert await receiver.has(kept + 100) == ids(0, kept + 100)
