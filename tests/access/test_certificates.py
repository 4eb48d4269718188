"""TLS at the door: versions, client certificates, and certificates that are renewed."""

import asyncio
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from pexpolicy.access import certificates as served
from pexpolicy.access import connections
from pexpolicy.access.certificates import CertificateError, CertificateFiles, Certificates, load
from pexpolicy.access.warnings import access_warnings, preflight_problems
from pexpolicy.builder import build_policy
from pexpolicy.config.schema.server import TlsTable
from pexpolicy.policy import Policy
from tests.support import certificates, fake_plugins, live_server, wire
from tests.support.fake_plugins import Log, Serve, Serving
from tests.support.waiting import until, wait_until


def policy(**tls: object) -> Policy:
    return build_policy(fake_plugins.settings(tls=tls), available={})


async def ask(server: Serving, context: ssl.SSLContext) -> wire.Reply:
    return await server.ask(wire.SERVICE, ssl=context, server_hostname=certificates.NAME)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certificates.write_pair(tmp_path)
    certificates.write_authority(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize(
    ("least", "most", "answered"),
    [
        ("1.2", ssl.TLSVersion.TLSv1_1, False),
        ("1.2", ssl.TLSVersion.TLSv1_2, True),
        ("1.2", ssl.TLSVersion.TLSv1_3, True),
        ("1.3", ssl.TLSVersion.TLSv1_2, False),
        ("1.3", ssl.TLSVersion.TLSv1_3, True),
    ],
)
async def test_versions_below_the_configured_one_are_not_spoken(
    serving: Serve, folder: Path, least: str, most: ssl.TLSVersion, answered: bool
) -> None:
    context = certificates.client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = most
    async with serving(policy(**certificates.tls(folder, min_version=least))) as server:
        if answered:
            assert (await ask(server, context)).status == 200
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await ask(server, context)
            assert await noted(server) == ["tls handshake failed"]


async def noted(server: Serving) -> list[str]:
    """The reasons on record; the server may notice a failed handshake after its client."""
    await until(server.lines)
    return [line["reason"] for line in server.lines() if line["event"] == "refused"]


def showing(leaf: trustme.LeafCert | None) -> ssl.SSLContext:
    context = certificates.client_context()
    if leaf is not None:
        leaf.configure_cert(context)
    return context


CLIENTS: dict[str, Callable[[], trustme.LeafCert | None]] = {
    "none": lambda: None,
    "expired": lambda: certificates.issue(days=-1),
    "wrong CA": lambda: certificates.issue(of="nobody trusts it"),
    "right": certificates.issue,
}


@pytest.mark.parametrize(
    ("client", "mode", "said"),
    [
        ("none", "required", "peer did not return a certificate"),
        ("none", "optional", None),
        ("expired", "required", "certificate has expired"),
        ("expired", "optional", "certificate has expired"),
        ("wrong CA", "required", "unable to get local issuer certificate"),
        ("wrong CA", "optional", "unable to get local issuer certificate"),
        ("right", "required", None),
        ("right", "optional", None),
    ],
)
async def test_client_certificates(
    serving: Serve, folder: Path, client: str, mode: str, said: str | None
) -> None:
    context = showing(CLIENTS[client]())
    table = certificates.tls(folder, client_ca=str(folder / "ca.pem"), client_certificate=mode)
    async with serving(policy(**table)) as server:
        if said is None:
            assert (await ask(server, context)).status == 200
            return
        # With TLS 1.3 a client hears of its refusal after it believed the handshake was over.
        with pytest.raises((OSError, IndexError, ValueError)):
            await ask(server, context)
        await noted(server)
        (line,) = server.lines()
        assert (line["reason"], line["status"], line["detail"]) == ("tls handshake failed", 0, said)


async def test_an_expired_client_certificate_ends_a_kept_connection(
    serving: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.time()]
    monkeypatch.setattr(connections, "time", SimpleNamespace(time=lambda: now[0]))
    table = certificates.tls(folder, client_ca=str(folder / "ca.pem"))
    request = wire.request_bytes(wire.SERVICE, "GET", {"Connection": "keep-alive"})
    async with (
        serving(policy(**table)) as server,
        connected(server, showing(certificates.issue(days=1))) as (reader, writer),
    ):
        for seconds in (0, 86_000):
            now[0] += seconds
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            await reader.readexactly(int(re.findall(rb"Content-Length: (\d+)", head)[0]))
        now[0] += 800
        writer.write(request)
        reply = await reader.read()
        assert reply.startswith(b"HTTP/1.1 403")
        assert b"Connection: close" in reply
        line = server.lines()[-1]
        assert (line["reason"], line["peer"]) == ("client certificate expired", "127.0.0.1")


def visit(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLSession | None, bool | None]:
    """Make one call; return its TLS session, and whether a saved one was resumed."""
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain, server_hostname=certificates.NAME, session=session) as client,
    ):
        client.sendall(wire.request_bytes(wire.SERVICE, "GET", {"Connection": "close"}))
        while client.recv(65536):
            pass
        return client.session, client.session_reused


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("asks_for_certificate", [True, False])
async def test_no_session_ticket_where_a_client_certificate_is_asked_for(
    serving: Serve, folder: Path, version: ssl.TLSVersion, asks_for_certificate: bool
) -> None:
    also = {"client_ca": str(folder / "ca.pem")} if asks_for_certificate else {}
    context = showing(certificates.issue())
    context.maximum_version = version
    async with serving(policy(**certificates.tls(folder, **also))) as server:
        session, _ = await asyncio.to_thread(visit, server.port, context)
        assert bool(session is not None and session.has_ticket) is not asks_for_certificate
        if not asks_for_certificate:
            _, is_resumed = await asyncio.to_thread(visit, server.port, context, session)
            assert is_resumed


def test_a_session_is_resumed_after_a_reload(folder: Path) -> None:
    text = '[tls]\ncertificate = "server.pem"\nkey = "server.key"\n[audit]\npath = "audit.jsonl"\n'
    config = folder / "config.toml"
    config.write_text(text)
    context = certificates.client_context()
    with live_server.running(config) as server:
        session, _ = visit(server.port, context)
        before = server.operator("/status").json["config"]["policy_hash"]
        config.write_text(f'{text}[endpoints.registration_alias]\ndefault = "reject"\n')
        wait_until(lambda: server.operator("/status").json["config"]["policy_hash"] != before)
        assert visit(server.port, context, session)[1]


def source(folder: Path, **also: object) -> CertificateFiles:
    return CertificateFiles.of(TlsTable.model_validate(certificates.tls(folder, **also)), folder)


def loaded(folder: Path) -> tuple[Certificates, Log]:
    log = Log()
    return Certificates(source(folder), log), log


def serial_served(certs: Certificates) -> int:
    """The serial number that is served, by a handshake in memory."""
    client_in, client_out, server_in, server_out = (ssl.MemoryBIO() for _ in range(4))
    client = certificates.client_context().wrap_bio(
        client_in, client_out, server_hostname=certificates.NAME
    )
    server = certs.loaded.context.wrap_bio(server_in, server_out, server_side=True)
    for _ in range(4):
        for end, written, read in (
            (client, client_out, server_in),
            (server, server_out, client_in),
        ):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
            read.write(written.read())
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


serial = certificates.serial


def test_a_changed_certificate_is_served_to_the_next_connection(folder: Path) -> None:
    certs, log = loaded(folder)
    leaf = certificates.write_pair(folder, days=60)
    certs.check_files()
    assert serial_served(certs) == serial(leaf)
    assert certs.loaded.not_after - datetime.now(UTC) > timedelta(days=59)
    assert (certs.problem, certs.renewals) == ("", 1)
    certs.check_files()
    assert certs.renewals == 1
    assert [event["event"] for event in log.events] == ["certificate renewed"]


def test_an_expired_certificate_does_not_take_the_place_of_a_good_one(folder: Path) -> None:
    certs, log = loaded(folder)
    before = serial_served(certs)
    certificates.write_pair(folder, days=-2)
    for _ in range(3):
        certs.check_files()
    assert (serial_served(certs), certs.renewals) == (before, 0)
    (event,) = log.events
    assert event["event"].startswith("certificate not renewed")
    gone = datetime.now(UTC) - timedelta(days=2)
    assert event["problem"] == certs.problem
    assert f"server.pem expired on {gone:%Y-%m-%d}" in certs.problem
    certificates.write_pair(folder)
    certs.check_files()
    assert (certs.problem, certs.renewals) == ("", 1)


def test_an_expired_certificate_is_served_from_the_start(folder: Path) -> None:
    certificates.write_pair(folder, days=-2)
    assert not [*preflight_problems(fake_plugins.settings(tls=certificates.tls(folder)))]
    assert Certificates(source(folder), Log()).loaded.not_after < datetime.now(UTC)


BAD: dict[str, Callable[[Path], object]] = {
    "no certificate": lambda folder: (folder / "server.pem").write_text("nothing"),
    "an empty file": lambda folder: (folder / "server.pem").write_text(""),
    "a missing certificate": lambda folder: (folder / "server.pem").unlink(),
    "a missing key": lambda folder: (folder / "server.key").unlink(),
    "no key": lambda folder: (folder / "server.key").write_text("nothing"),
    "another key": lambda folder: (folder / "server.key").write_bytes(
        certificates.issue().private_key_pem.bytes()
    ),
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
def test_a_bad_pair_is_not_served_and_is_an_alarm(
    folder: Path, spoil: Callable[[Path], object]
) -> None:
    certs, log = loaded(folder)
    before = serial_served(certs)
    spoil(folder)
    certs.check_files()
    assert log.events == []
    for _ in range(3):
        certs.check_files()
    assert serial_served(certs) == before
    assert certs.problem.startswith("tls.")
    (event,) = log.events
    assert event["event"].startswith("certificate not renewed")
    leaf = certificates.write_pair(folder)
    certs.check_files()
    assert (certs.problem, serial_served(certs)) == ("", serial(leaf))


def test_the_files_may_change_between_the_two_writes_without_an_alarm(folder: Path) -> None:
    certs, log = loaded(folder)
    leaf = certificates.issue()
    (folder / "server.key").write_bytes(leaf.private_key_pem.bytes())
    certs.check_files()
    (folder / "server.pem").write_bytes(leaf.cert_chain_pems[0].bytes())
    certs.check_files()
    assert serial_served(certs) == serial(leaf)
    assert [event["event"] for event in log.events] == ["certificate renewed"]


def test_a_key_may_have_a_password(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = load_pem_private_key((folder / "server.key").read_bytes(), None)
    secret = BestAvailableEncryption(b"s3cret")
    (folder / "server.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret)
    )
    with pytest.raises(CertificateError, match="password"):
        load(source(folder))
    for word, right in (("wrong", False), ("s3cret", True)):
        monkeypatch.setenv("TEST_KEY_PASSWORD", word)
        settings = fake_plugins.settings(
            tls=certificates.tls(folder, key_password_env="TEST_KEY_PASSWORD")
        )
        assert ([*preflight_problems(settings)] == []) is right


@pytest.mark.parametrize(
    ("days", "said"), [(-2, "expired on"), (3, "expires in 3 days"), (20, "expires in"), (25, None)]
)
def test_what_expires_is_reported_in_time(tmp_path: Path, days: float, said: str | None) -> None:
    certificates.write_pair(tmp_path, days=days + 0.1)
    settings = fake_plugins.settings(tls=certificates.tls(tmp_path))
    texts = [a.text for a in access_warnings(settings) if a.key == ("tls", "certificate")]
    assert [said is not None and said in text for text in texts] == [True] * (said is not None)


async def test_a_renewed_certificate_reaches_new_connections_and_open_ones_stay(
    serving: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "CERTIFICATE_POLL_INTERVAL_S", 0.02)
    request = wire.request_bytes(wire.SERVICE, "GET", {"Connection": "keep-alive"})
    async with (
        serving(policy(**certificates.tls(folder))) as server,
        connected(server) as (reader, writer),
    ):
        leaf = certificates.write_pair(folder)
        for _ in range(200):
            async with connected(server) as (_, new):
                shown = new.get_extra_info("ssl_object").getpeercert(binary_form=True)
            if x509.load_der_x509_certificate(shown).serial_number == serial(leaf):
                break
            await asyncio.sleep(0.01)
        else:
            pytest.fail("the new certificate was never served")
        writer.write(request)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")


@asynccontextmanager
async def connected(
    server: Serving, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        server.port,
        ssl=context or certificates.client_context(),
        server_hostname=certificates.NAME,
    )
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
