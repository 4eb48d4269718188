"""Who a target is, and who we are, by certificates."""

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from pexpolicy.config.settings import ConfigError
from tests.support import fake_plugins, wire
from tests.support import upstream_policies as policies
from tests.support import upstream_servers as servers

ASKED = f"{wire.SERVICE}?call_direction=dial_in&protocol=sip&local_alias=a"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_side(authority: trustme.CA, *names: str, clients: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names or ("127.0.0.1",)).configure_cert(context)
    if clients:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def asked(
    serving: fake_plugins.Serve, secure: ssl.SSLContext, root: Path, **target: Any
) -> tuple[wire.Reply, str]:
    room = servers.always(servers.decided(servers.ROOM))
    async with servers.answering(room, secure=secure) as server:
        made = policies.policy({"t": {"url": server.url, **target}}, root=root)
        async with serving(made) as running:
            return await running.ask(ASKED), running.details()


async def test_a_target_is_trusted_by_its_authority(
    serving: fake_plugins.Serve, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    reply, _ = await asked(serving, server_side(authority), tmp_path, ca_file="ca.pem")
    assert reply.result == servers.ROOM


@pytest.mark.parametrize(
    ("names", "ca", "says"),
    [
        (("127.0.0.1",), None, "its certificate is not trusted"),
        (("127.0.0.1",), "other", "its certificate is not trusted"),
        (("elsewhere.example.com",), "own", "IP address mismatch"),
    ],
)
async def test_a_stranger_is_not_asked(
    serving: fake_plugins.Serve,
    authority: trustme.CA,
    tmp_path: Path,
    names: tuple[str, ...],
    ca: str | None,
    says: str,
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "own.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    trust = {} if ca is None else {"ca_file": f"{ca}.pem"}
    reply, details = await asked(serving, server_side(authority, *names), tmp_path, **trust)
    assert reply.result is None
    assert says in details


async def test_any_server_is_asked_where_nothing_is_verified(
    serving: fake_plugins.Serve, authority: trustme.CA, tmp_path: Path
) -> None:
    secure = server_side(authority, "elsewhere.example.com")
    reply, _ = await asked(serving, secure, tmp_path, verify=False)
    assert reply.result == servers.ROOM


async def test_we_show_the_certificate_that_a_target_asks_for(
    serving: fake_plugins.Serve, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    ours = authority.issue_cert("policy.example.com")
    ours.private_key_and_cert_chain_pem.write_to_path(tmp_path / "ours.pem")
    secure = server_side(authority, clients=True)
    options = {"ca_file": "ca.pem", "client_cert": "ours.pem"}
    reply, _ = await asked(serving, secure, tmp_path, **options)
    assert reply.result == servers.ROOM
    reply, details = await asked(serving, secure, tmp_path, ca_file="ca.pem")
    assert reply.result is None
    assert "t: " in details


async def test_https_to_a_server_without_tls_is_a_failure(serving: fake_plugins.Serve) -> None:
    async with servers.answering(servers.always(servers.decided(servers.ROOM))) as plain:
        url = plain.url.replace("http:", "https:")
        made = policies.policy({"t": {"url": url, "timeout": 0.3}})
        async with serving(made) as running:
            assert (await running.ask(ASKED)).result is None
            assert "t: " in running.details()
    assert plain.heads == []


@pytest.mark.parametrize(
    ("target", "key", "says"),
    [
        ({"ca_file": "none.pem"}, "ca_file", "No such file"),
        ({"ca_file": "text.pem"}, "ca_file", "no certificate or key"),
        ({"client_cert": "none.pem"}, "client_cert", "No such file"),
        ({"client_cert": "text.pem"}, "client_cert", "no certificate or key"),
        ({"client_cert": "locked.pem"}, "client_cert", "without a password"),
    ],
)
def test_certificates_that_cannot_be_used_are_named(
    authority: trustme.CA, tmp_path: Path, target: dict[str, str], key: str, says: str
) -> None:
    (tmp_path / "text.pem").write_text("no certificate\n")
    locked = authority.issue_cert("policy.example.com")
    (tmp_path / "locked.pem").write_bytes(_locked(locked) + locked.cert_chain_pems[0].bytes())
    with pytest.raises(ConfigError) as refused:
        policies.policy({"t": {"url": "https://127.0.0.1:1", **target}}, root=tmp_path)
    (problem,) = refused.value.problems
    assert problem.key == ("plugins", "upstream", "settings", "targets", "t", key)
    assert says in problem.text


def _locked(leaf: trustme.LeafCert) -> bytes:
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415 - for one test

    key = form.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    return key.private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"a password")
    )
