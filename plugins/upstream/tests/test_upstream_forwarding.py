"""What arrives at a target: the call as it was written, and nothing of who asked us."""

from pathlib import Path

import pytest

from pexpolicy.testing import make_request, url_of
from tests.support import fake_plugins, secret_canaries, wire
from tests.support import upstream_policies as policies
from tests.support import upstream_servers as servers

WRITTEN = [
    f"{wire.SERVICE}?local_alias=sip%3aa%2fb+c%2Bd%20e&local_alias=second&local_alias=",
    f"{wire.SERVICE}?x=%FF%fe%E9&y=%&z=%zz&&=&a=b=c&bare",
    f"{wire.PARTICIPANT}?idp_attribute_groups=a&idp_attribute_groups=b&q=%00%0a%0D",
    f"{wire.LOCATION}?ms-subnet=10.0.0.0&location=New+York%2C+US",
    f"{wire.AVATAR}sip%3Aalice%40example.com%2Fx?width=40&height=40",
    f"{wire.AVATAR}a//b;c=d,e'(f)!*~?width=40",
    wire.DIRECTORY,
    f"{wire.DIRECTORY}?q={{}}|^`[]\\\"<>'",
    f"{wire.REGISTRATION}%e2%82%ac+%2B@example.com",
]


@pytest.mark.parametrize("base", ["", "/pexip/base%20path"])
async def test_path_and_query_arrive_byte_for_byte(serving: fake_plugins.Serve, base: str) -> None:
    nothing = servers.always(servers.reply(b"", "404 None"))
    async with (
        servers.answering(nothing) as target,
        serving(policies.policy({"target": target.url + base})) as server,
    ):
        for written in WRITTEN:
            assert (await server.ask(written)).status in (200, 404)
    assert target.targets == [(base + written).encode() for written in WRITTEN]


async def test_a_base_path_of_ours_is_taken_off_and_that_of_the_target_put_on(
    serving: fake_plugins.Serve,
) -> None:
    async with servers.answering(servers.always(servers.decided())) as target:
        made = policies.policy({"t": f"{target.url}/theirs"}, server={"base_path": "/ours"})
        async with serving(made) as server:
            await server.ask(f"/ours{WRITTEN[0]}")
    assert target.targets == [f"/theirs{WRITTEN[0]}".encode()]


async def test_credentials_and_headers_of_the_caller_stay_here(
    serving: fake_plugins.Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INBOUND", secret_canaries.WORD)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    async with servers.answering(servers.always(servers.decided())) as target:
        made = policies.policy(
            {"target": target.url}, auth={"user": "node", "password_env": "INBOUND"}
        )
        headers = {
            **wire.basic("node", secret_canaries.WORD),
            "Cookie": f"session={secret_canaries.WORD}",
            "X-Secret": secret_canaries.WORD,
        }
        async with serving(made) as server:
            assert (await server.ask(WRITTEN[0], headers=headers)).status == 200
    (head,) = target.heads
    names = {line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:] if line}
    assert names == {b"host", b"accept"}
    assert secret_canaries.find_canaries(head.decode()) == []


@pytest.mark.parametrize("source", ["password_env", "password_file"])
async def test_a_target_gets_its_own_credentials_and_no_other(
    serving: fake_plugins.Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    monkeypatch.setenv("OUTBOUND", secret_canaries.WORD)
    (tmp_path / "outbound.password").write_text(f"{secret_canaries.WORD}\n")
    where = "OUTBOUND" if source == "password_env" else "outbound.password"
    async with (
        servers.answering(servers.always(servers.reply(b"", "503 Busy"))) as first,
        servers.answering(servers.always(servers.decided(servers.ROOM))) as second,
    ):
        made = policies.policy(
            {"first": {"url": first.url, "user": "us", source: where}, "second": second.url},
            root=tmp_path,
        )
        async with serving(made) as server:
            reply = await server.ask(WRITTEN[0])
    given_to = [
        b"Authorization: " + wire.basic("us", secret_canaries.WORD)["Authorization"].encode()
    ]
    assert [line for line in first.heads[0].split(b"\r\n") if b"Auth" in line] == given_to
    assert b"Authorization" not in second.heads[0]
    assert reply.result == servers.ROOM


@pytest.mark.parametrize("alias", ["..", ".", "%2e%2e", "..%2F..%2Fadmin", "a/../../b", "..%5Cx"])
async def test_an_alias_that_leads_to_another_path_is_not_passed_on(
    serving: fake_plugins.Serve, alias: str
) -> None:
    async with policies.relaying(serving, servers.decided()) as (server, target):
        reply = await server.ask(f"{wire.REGISTRATION}{alias}?q=..")
        assert (await server.ask(f"{wire.REGISTRATION}a..b.?q=/../")).action == "continue"
    assert reply.json["decided_by"] == "default"
    assert "leads to another path" in server.lines()[0]["steps"][0]["detail"]
    assert len(target.heads) == 1


async def test_cookies_of_a_target_are_not_kept(serving: fake_plugins.Serve) -> None:
    crumbs = servers.reply(b"", "404 None", extra="Set-Cookie: a=b; Path=/\r\n")
    async with policies.relaying(serving, crumbs) as (server, target):
        await server.ask(WRITTEN[0])
        await server.ask(WRITTEN[0])
    assert len(target.heads) == 2
    assert b"cookie" not in target.heads[1].lower()


async def test_the_call_reaches_the_target_out_of_a_process_of_its_own(
    serving: fake_plugins.Serve,
) -> None:
    request = make_request("service_configuration", local_alias="a/b+c@example.com")
    async with servers.answering(servers.always(servers.decided(servers.ROOM))) as target:
        made = policies.policy({"target": target.url}, isolation="process")
        async with serving(made) as server:
            reply = await server.ask(str(url_of(request)))
    assert reply.result == servers.ROOM
    assert target.targets == [str(url_of(request)).encode()]
