"""Networks and named proxies: who may connect, and whom a forwarded request comes from."""

import asyncio
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from pexpolicy.access.access_control import Networks, TrustedProxies
from pexpolicy.access.warnings import access_warnings
from pexpolicy.builder import build_policy
from pexpolicy.config.settings import ConfigError
from pexpolicy.policy import Policy
from tests.support import wire
from tests.support.fake_plugins import Serve, settings

PROXIES = ["10.0.0.0/8", "2001:db8::/32"]
V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)
ADDRESSES = V4 | V6


def policy(**tables: Any) -> Policy:
    return build_policy(settings(**tables), available={})


@given(ADDRESSES, ADDRESSES, st.integers(0, 32))
def test_a_network_holds_what_the_standard_library_says(
    of: IPv4Address | IPv6Address, address: IPv4Address | IPv6Address, prefix: int
) -> None:
    network = ip_network(f"{of}/{prefix}", strict=False)
    # The standard library does not see that a mapped address is an IPv4 one.
    plain = getattr(address, "ipv4_mapped", None) or address
    if getattr(network.network_address, "ipv4_mapped", None) is None:
        assert Networks([str(network)]).holds(str(address)) is (plain in network)


@pytest.mark.parametrize("address", ["", "unknown", "10.0.0.256", "::g", "10.0.0.1:80", "a" * 99])
def test_what_is_no_address_is_in_no_network(address: str) -> None:
    assert not Networks(["0.0.0.0/0", "::/0"]).holds(address)


def client(peer: str, *headers: tuple[str, str]) -> str | None:
    request = make_mocked_request("GET", "/", headers=CIMultiDict(headers))
    return TrustedProxies(PROXIES).client(peer, request)


XFF = "X-Forwarded-For"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], "10.0.0.1"),
        ([(XFF, "192.0.2.7")], "192.0.2.7"),
        ([(XFF, "192.0.2.7:4711")], "192.0.2.7"),
        ([(XFF, "198.51.100.1, 192.0.2.7")], "192.0.2.7"),
        ([(XFF, "198.51.100.1"), (XFF, "192.0.2.7")], "192.0.2.7"),
        ([(XFF, "192.0.2.7, 10.0.0.2")], "192.0.2.7"),
        ([(XFF, "192.0.2.7,10.0.0.2,10.1.1.1")], "192.0.2.7"),
        ([(XFF, "10.0.0.9, 10.0.0.2")], "10.0.0.9"),
        ([(XFF, "[2001:db9::1]:443")], "2001:db9::1"),
        ([(XFF, "2001:db9::1")], "2001:db9::1"),
        ([(XFF, "192.0.2.7, 2001:db8::5")], "192.0.2.7"),
        ([(XFF, "::ffff:192.0.2.7")], "192.0.2.7"),
        ([(XFF, "unknown")], None),
        ([(XFF, "192.0.2.7, unknown")], None),
        ([(XFF, "192.0.2.7,")], None),
        ([("Forwarded", "for=192.0.2.7")], "10.0.0.1"),
    ],
)
def test_the_last_address_that_is_no_proxy_is_the_client(
    headers: list[tuple[str, str]], expected: str | None
) -> None:
    assert client("10.0.0.1", *headers) == expected


@given(
    st.lists(ADDRESSES | st.text(alphabet='0123456789.:,[]" abcdef-', max_size=20), max_size=5),
    V4.filter(lambda a: a not in ip_network("10.0.0.0/8")),
    st.lists(st.sampled_from(["10.0.0.2", "10.1.2.3", "2001:db8::9"]), max_size=3),
)
def test_nothing_that_a_client_writes_changes_who_it_is(
    written: list[object], true: IPv4Address, proxies: list[str]
) -> None:
    value = ", ".join([*map(str, written), str(true), *proxies])
    assert client("10.0.0.1", (XFF, value)) == str(true)


async def test_an_address_outside_the_networks_is_closed_without_a_byte(serving: Serve) -> None:
    async with serving(policy(access={"networks": ["127.0.0.2/32"]})) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await reader.read() == b""
        writer.close()
        (line,) = server.lines()
        assert (line["reason"], line["status"]) == ("network not allowed", 0)
        assert line["peer"] == "127.0.0.1"
        reply = await server.ask(wire.SERVICE, local_addr=("127.0.0.2", 0))
        assert reply.status == 200


NO_CLIENT = "the proxy 127.0.0.1 names no client in X-Forwarded-For"
PROXIED = {"networks": ["192.0.2.0/24"], "trusted_proxies": ["127.0.0.1"]}


@pytest.mark.parametrize(
    ("forwarded", "status", "peer", "detail"),
    [
        ({XFF: "192.0.2.7"}, 200, "192.0.2.7", None),
        ({XFF: "203.0.113.1, 192.0.2.7"}, 200, "192.0.2.7", None),
        ({XFF: "192.0.2.7, 203.0.113.1"}, 403, "203.0.113.1", None),
        ({XFF: "nonsense"}, 403, "127.0.0.1", NO_CLIENT),
        ({XFF: "127.0.0.1"}, 403, "127.0.0.1", NO_CLIENT),
        ({}, 403, "127.0.0.1", NO_CLIENT),
        ({"Forwarded": "for=192.0.2.7"}, 403, "127.0.0.1", NO_CLIENT),
    ],
)
async def test_behind_a_named_proxy_the_client_counts(
    serving: Serve, forwarded: dict[str, str], status: int, peer: str, detail: str | None
) -> None:
    async with serving(policy(access=PROXIED)) as server:
        assert (await server.ask(wire.SERVICE, headers=forwarded)).status == status
        (line,) = server.lines()
        assert line["peer"] == peer
        if status == 403:
            assert line["reason"] == "network not allowed"
        assert line.get("detail") == detail


async def test_who_is_no_named_proxy_is_not_believed(serving: Serve) -> None:
    access = {"networks": ["127.0.0.0/8"], "trusted_proxies": ["127.0.0.1"]}
    async with serving(policy(access=access)) as server:
        lie = {XFF: "127.0.0.9"}
        await server.ask(wire.SERVICE, headers=lie, local_addr=("127.0.0.3", 0))
        await server.ask(wire.SERVICE, headers=lie)
        assert [line["peer"] for line in server.lines()] == ["127.0.0.3", "127.0.0.9"]


async def test_a_connection_of_a_proxy_carries_the_calls_of_many(serving: Serve) -> None:
    clients = ["192.0.2.7", "192.0.2.8", "203.0.113.1", "192.0.2.7", "203.0.113.1"]
    asked = b"".join(
        wire.request_bytes(wire.SERVICE, "GET", {XFF: one, "Connection": "keep-alive"})
        for one in clients
    )
    async with serving(policy(access=PROXIED)) as server:
        await wire.send(server.port, asked + wire.request_bytes(wire.SERVICE, "GET", {}))
        lines = server.lines()[:-1]
        assert [line["peer"] for line in lines] == clients
        assert [line["status"] for line in lines] == [200, 200, 403, 200, 403]


BROKEN = [
    ({"networks": ["10.0.0.1/8"]}, "access.networks[0]", "host bits set"),
    ({"networks": ["ten"]}, "access.networks[0]", "not a subnet"),
    ({"trusted_proxies": ["10.0.0.0/33"]}, "access.trusted_proxies[0]", "not a subnet"),
    ({"network": []}, "access.network", "did you mean 'networks'?"),
    ({"forwarded_header": "Forwarded"}, "access.forwarded_header", "unknown key"),
]


@pytest.mark.parametrize(("table", "key", "said"), BROKEN)
def test_what_is_no_network_is_reported_by_its_key(
    table: dict[str, Any], key: str, said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        settings(access=table)
    (problem,) = error.value.problems
    assert str(problem).startswith(f"{key}: ")
    assert said in str(problem)


def advised(**tables: Any) -> list[str]:
    return [".".join(map(str, a.key)) for a in access_warnings(settings(**tables))]


def test_what_leaves_access_open_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_POLICY_PASSWORD", "s3cret of eight")
    auth = {"user": "pexip", "password_env": "TEST_POLICY_PASSWORD"}
    wide = {"host": "0.0.0.0"}  # noqa: S104 - nothing listens there
    nodes = {"networks": ["10.44.0.0/16"]}
    assert advised() == []
    assert advised(auth=auth) == []
    assert advised(auth=auth, server=wide) == ["access.networks"]
    assert advised(auth=auth, server=wide, access=nodes) == []
    assert advised(server=wide, access=nodes) == ["access.networks"]
    assert advised(access={"trusted_proxies": ["10.0.0.1"]}) == ["access.trusted_proxies"]
    any_proxy = {**nodes, "trusted_proxies": ["10.0.0.1", "::/0"]}
    assert advised(auth=auth, access=any_proxy) == ["access.trusted_proxies.1"]
    assert advised(console={"port": 9107}) == ["console.port"]


@pytest.mark.parametrize(("secret", "told"), [("k" * 7, 3), ("k" * 15, 2), ("k" * 16, 0)])
def test_secrets_that_are_found_by_trying_are_reported_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str, told: int
) -> None:
    (tmp_path / "key").write_text(secret)
    monkeypatch.setenv("TEST_TOKEN", secret)
    privacy = {"personal": "hashed", "key_file": str(tmp_path / "key")}
    auth = {"user": "pexip", "password_file": str(tmp_path / "key")}
    admin = {"token_env": "TEST_TOKEN"}
    tables: dict[str, Any] = {"privacy": privacy, "admin": admin, "auth": auth}
    keys = ["privacy.key_file", "admin.token_env", "auth"]
    assert advised(**tables) == keys[:told]
    assert not any("kkk" in str(warning) for warning in access_warnings(settings(**tables)))


@given(ADDRESSES)
def test_an_address_is_written_in_one_way(address: IPv4Address | IPv6Address) -> None:
    found = client("10.0.0.1", (XFF, str(address)))
    assert found is not None
    assert ip_address(found) == (getattr(address, "ipv4_mapped", None) or address)
