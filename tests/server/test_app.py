"""HTTP at the edge: what is answered, what is refused, and that nothing of it comes back."""

import asyncio

import pytest

from tests.support import wire
from tests.support.fake_plugins import Serve, always, plugin, policy

NEEDLE = "needle4711"


async def test_each_endpoint_answers_with_a_length_a_type_and_a_plain_name(serving: Serve) -> None:
    async with serving({}) as server:
        for target in wire.TARGETS.values():
            reply = await server.ask(target)
            assert reply.status in (200, 404)
            assert reply.headers["content-type"] == "application/json"
            assert int(reply.headers["content-length"]) == len(reply.body)
            assert reply.headers["server"] == "pexpolicy"


@pytest.mark.parametrize("target", wire.TARGETS.values(), ids=wire.TARGETS)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_other_methods_are_not_allowed(serving: Serve, method: str, target: str) -> None:
    async with serving({}) as server:
        reply = await server.ask(target, method=method)
        assert (reply.status, reply.body) == (405, b"")
        assert reply.headers["allow"] == "GET, HEAD"
        (line,) = server.lines()
        assert (line["event"], line["reason"]) == ("refused", "method not allowed")


@pytest.mark.parametrize("target", wire.TARGETS.values(), ids=wire.TARGETS)
async def test_head_is_a_get_without_its_body(serving: Serve, target: str) -> None:
    async with serving({}) as server:
        got = await server.ask(target)
        headed = await server.ask(target, method="HEAD")
        assert headed.status == got.status
        assert headed.body == b""
        assert headed.headers["content-length"] == got.headers["content-length"]
        assert len(server.lines()) == 2


@pytest.mark.parametrize(
    "target",
    [
        *("/", "/policy", "/policy/v1", "/policy/v1/", "/policy/v2/service/configuration"),
        *("/policy/v1/service", "/favicon.ico"),
        *("/policy/v1/service/configuration/", "//policy/v1/service/configuration"),
        *("/policy/v1/participant/avatar", "/policy/v1/participant/avatar/"),
        *("/policy/v1/registrations/", "/POLICY/V1/registrations", f"/{NEEDLE}?a=b"),
        *("/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/policy/v1/participant/location/x"),
    ],
)
async def test_unknown_paths_are_not_found_and_lead_nowhere_else(
    serving: Serve, target: str
) -> None:
    async with serving({}) as server:
        reply = await server.ask(target)
        assert (reply.status, reply.body) == (404, b"")
        assert "location" not in reply.headers
        (line,) = server.lines()
        assert (line["event"], line["status"]) == ("refused", 404)
        assert (line["reason"], line["peer"]) == ("unknown path", "127.0.0.1")


@pytest.mark.parametrize("base", ["", "/api/pexip", "/a"])
async def test_a_base_path_stands_before_every_endpoint(serving: Serve, base: str) -> None:
    async with serving({}, server={"base_path": base}) as server:
        for name, target in wire.TARGETS.items():
            reply = await server.ask(base + target)
            assert reply.headers["content-type"] == "application/json"
            assert server.lines()[-1]["endpoint"] == name
            if base:
                assert (await server.ask(target)).body == b""
        alias = f"{base}{wire.REGISTRATION}sip%3Aa%40b"
        await server.ask(alias)
        assert server.lines()[-1]["request"]["alias"] == "sip:a@b"
        assert (await server.ask(base + wire.SERVICE, method="POST")).status == 405
        assert (await server.ask("/livez")).status == 200


CURIOUS = [
    b"CONNECT needle4711:443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET http://needle4711/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"HEAD /needle4711 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
]


@pytest.mark.parametrize("expectation", [b"100-continue", b"needle4711"])
async def test_an_expectation_is_no_reason_to_leave_a_call_unanswered(
    serving: Serve, expectation: bytes
) -> None:
    async with serving({}) as server:
        reply = await wire.send(
            server.port,
            b"GET /policy/v1/service/configuration HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            b"Expect: " + expectation + b"\r\n\r\n",
        )
        assert reply.status == 200
        assert NEEDLE not in str(reply.headers)
        assert len(server.lines()) == 1


@pytest.mark.parametrize("content", CURIOUS)
async def test_curious_requests_are_refused_in_our_own_words(
    serving: Serve, content: bytes
) -> None:
    async with serving({}) as server:
        reply = await wire.send(server.port, content)
        assert 400 <= reply.status < 500
        assert reply.body == b""
        assert reply.headers["server"] == "pexpolicy"
        assert NEEDLE not in str(reply.headers)
        assert len(server.lines()) == 1


async def test_nothing_of_a_request_comes_back(serving: Serve) -> None:
    query = f"?local_alias={NEEDLE}&remote_alias={NEEDLE}&{NEEDLE}={NEEDLE}"
    async with serving({}) as server:
        for target in wire.TARGETS.values():
            reply = await server.ask(target + query)
            assert NEEDLE.encode() not in reply.body
            assert NEEDLE not in str(reply.headers)


async def test_the_fault_of_a_plugin_does_not_show_in_the_reply(serving: Serve) -> None:
    async def fails(_: object) -> object:
        raise ValueError(NEEDLE)

    async with serving({"broken": plugin(service_configuration=fails)}) as server:
        reply = await server.ask(wire.SERVICE)
        assert reply.status == 200
        assert NEEDLE.encode() not in reply.body
        assert b"Traceback" not in reply.body


async def test_a_fault_of_the_server_itself_costs_no_call(
    serving: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = policy(
        {"registrar": plugin(registration_alias=always(None))},
        {"registrar": {"on_error": "reject"}},
    )

    async def breaks(*_: object) -> object:
        raise RuntimeError(NEEDLE)

    monkeypatch.setattr(guarded, "answer", breaks)
    async with serving(guarded) as server:
        assert (await server.ask(wire.SERVICE)).action == "continue"
        assert (await server.ask(wire.REGISTRATION + "a@b")).action == "reject"
        assert len(server.lines()) == 2
        assert {event["event"] for event in server.log.events} == {"internal fault"}


async def test_a_plugin_that_cancels_every_task_leaves_each_call_its_reply_and_line(
    serving: Serve,
) -> None:
    own = asyncio.all_tasks()
    waiting = asyncio.Event()

    async def cancels(_: object) -> None:
        for task in asyncio.all_tasks() - own:
            task.cancel()

    async def waits(_: object) -> None:
        waiting.set()
        await asyncio.Event().wait()

    rude = plugin(service_configuration=waits, media_location=cancels)
    async with serving({"rude": rude}) as server:
        own |= asyncio.all_tasks()
        calls = []
        for target in (wire.SERVICE, wire.LOCATION):
            calls.append(asyncio.create_task(server.ask(target)))
            own.add(calls[-1])
            await waiting.wait()
        replies = await asyncio.gather(*calls)
        assert [reply.action for reply in replies] == ["continue", "continue"]
        endpoints = {line["endpoint"] for line in server.lines()}
        assert endpoints == {"service_configuration", "media_location"}
        faults = [event for event in server.log.events if event["event"] == "internal fault"]
        assert "a plugin or a library cancelled" in faults[0]["error"]
        assert (await server.ask(wire.REGISTRATION + "a@b")).action == "continue"


async def test_a_connection_is_kept_for_the_next_call(serving: Serve) -> None:
    request = wire.request_bytes(wire.SERVICE, "GET", {"Connection": "keep-alive"})
    last = wire.request_bytes(wire.PARTICIPANT, "GET", {})
    async with serving({}) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.write(request + last)
        rest = await reader.read()
        assert rest.count(b"HTTP/1.1 200") == 2
        writer.close()
        await writer.wait_closed()
        assert len(server.lines()) == 3


async def test_a_server_says_that_it_is_alive_without_leaving_a_line(serving: Serve) -> None:
    async with serving({}) as server:
        for target in ("/livez", "/readyz"):
            assert (await server.ask(target)).body == b"ok\n"
        assert server.lines() == []


@pytest.mark.parametrize("target", ["/unknown", "/livez", wire.SERVICE])
async def test_requests_that_strangers_pipeline_leave_turns_to_others(
    serving: Serve, target: str
) -> None:
    request = wire.request_bytes(target, "PUT", {"Connection": "keep-alive"})
    count, turns = 60, 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with serving({}) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        others = asyncio.create_task(take_turns())
        try:
            writer.write(request * count)
            for _ in range(count):
                await reader.readuntil(b"\r\n\r\n")
        finally:
            others.cancel()
            writer.transport.abort()
    assert turns >= count
