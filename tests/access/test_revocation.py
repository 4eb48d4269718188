"""Revoked client certificates are refused, on new connections and on kept ones."""

import asyncio
import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pexpolicy.access import certificates as served
from pexpolicy.access.certificates import CertificateFiles, Certificates
from pexpolicy.access.warnings import access_warnings, preflight_problems
from pexpolicy.config.schema.server import TlsTable
from tests.access.test_certificates import ask, connected, noted, policy, showing
from tests.support import certificates, wire
from tests.support.fake_plugins import Log, Serve, Serving, settings
from tests.support.waiting import HANG_S, until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certificates.write_pair(tmp_path)
    certificates.write_authority(tmp_path)
    certificates.write_revocations(tmp_path)
    return tmp_path


def table(folder: Path) -> dict[str, object]:
    files = {"client_ca": str(folder / "ca.pem"), "client_crl": str(folder / "crl.pem")}
    return dict(certificates.tls(folder, **files))


async def refusal(server: Serving, leaf: trustme.LeafCert) -> str:
    """Return why a client with this certificate is refused."""
    with pytest.raises((OSError, IndexError, ValueError)):
        await ask(server, showing(leaf))
    await noted(server)
    detail: str = server.lines()[-1]["detail"]
    return detail


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_revoked_certificate_is_refused_and_others_are_not(
    serving: Serve, folder: Path, version: ssl.TLSVersion
) -> None:
    good, revoked = certificates.issue(), certificates.issue()
    certificates.write_revocations(folder, revoked)
    context = showing(good)
    context.maximum_version = version
    async with serving(policy(**table(folder))) as server:
        assert (await ask(server, context)).status == 200
        assert await refusal(server, revoked) == "certificate revoked"


async def test_a_list_that_is_published_later_reaches_kept_connections(
    serving: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "CERTIFICATE_POLL_INTERVAL_S", 0.05)
    leaf, other = certificates.issue(), certificates.issue()
    request = wire.request_bytes(wire.SERVICE, "GET", {"Connection": "keep-alive"})
    async with (
        serving(policy(**table(folder))) as server,
        connected(server, showing(leaf)) as (reader, writer),
        connected(server, showing(other)) as (other_reader, other_writer),
    ):
        for source, sink in ((reader, writer), (other_reader, other_writer)):
            sink.write(request)
            assert (await answered(source)).startswith(b"HTTP/1.1 200")
        certificates.write_revocations(folder, leaf)

        async def is_refused() -> bool:
            writer.write(request)
            return (await answered(reader)).startswith(b"HTTP/1.1 403")

        await until(is_refused)
        assert server.lines()[-1]["reason"] == "client certificate revoked"
        other_writer.write(request)
        assert (await answered(other_reader)).startswith(b"HTTP/1.1 200")


async def test_a_replaced_authority_ends_the_connections_of_clients_of_the_old_one(
    serving: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "CERTIFICATE_POLL_INTERVAL_S", 0.05)
    request = wire.request_bytes(wire.SERVICE, "GET", {"Connection": "keep-alive"})
    leaf = certificates.issue()
    tables = certificates.tls(folder, client_ca=str(folder / "ca.pem"))
    async with (
        serving(policy(**tables)) as server,
        connected(server, showing(leaf)) as (reader, writer),
    ):
        writer.write(request)
        assert (await answered(reader)).startswith(b"HTTP/1.1 200")
        certificates.write_authority(folder, "trusted from now on")
        assert await asyncio.wait_for(reader.read(), HANG_S) == b""
        assert await refusal(server, leaf)


async def answered(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(re.findall(rb"Content-Length: (\d+)", head)[0]))
    return head


async def test_an_expired_list_refuses_and_is_reported(serving: Serve, folder: Path) -> None:
    certificates.write_revocations(folder, days=-1)
    made = policy(**table(folder))
    (warning,) = access_warnings(made.settings)
    assert warning.key == ("tls", "client_crl")
    assert re.match(r"expired on .* UTC: clients with a certificate are refused", warning.text)
    async with serving(made) as server:
        said = await refusal(server, certificates.issue())
        assert said == "CRL has expired"


def certs(folder: Path, log: Log) -> Certificates:
    return Certificates(CertificateFiles.of(TlsTable.model_validate(table(folder)), folder), log)


def test_a_list_that_expires_while_it_is_used_is_reported_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    loaded = certs(folder, log)
    loaded.check_files()
    assert (loaded.problem, log.events) == ("", [])

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # noqa: ARG003
            return datetime.now(UTC) + timedelta(days=8)

    monkeypatch.setattr(served, "datetime", Later)
    for _ in range(3):
        loaded.check_files()
    (event,) = log.events
    assert event["event"].startswith("certificate not renewed")
    assert "crl.pem expired on" in loaded.problem
    certificates.write_revocations(folder, days=20)
    loaded.check_files()
    assert loaded.problem == ""


def test_an_expired_list_does_not_take_the_place_of_a_valid_one(folder: Path) -> None:
    leaf = certificates.issue()
    certificates.write_revocations(folder, leaf)
    shown = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    log = Log()
    loaded = certs(folder, log)
    certificates.write_revocations(folder, days=-1)
    for _ in range(2):
        loaded.check_files()
    assert loaded.is_revoked(shown.public_bytes(Encoding.DER))
    assert "tls.client_crl" in loaded.problem


def write_der(folder: Path) -> None:
    found = x509.load_pem_x509_crl((folder / "crl.pem").read_bytes())
    (folder / "crl.pem").write_bytes(found.public_bytes(Encoding.DER))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no file": (lambda folder: (folder / "crl.pem").unlink(), "No such file"),
    "DER": (write_der, "it holds no PEM"),
    "another authority": (
        lambda folder: certificates.write_revocations(folder, of="nobody trusts it"),
        "nobody trusts it",
    ),
    "damaged": (
        lambda folder: (folder / "crl.pem").write_text(
            "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n"
        ),
        "is damaged",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_list_that_cannot_be_used_is_an_error(folder: Path, kind: str) -> None:
    spoil, said = BAD[kind]
    with suppress(FileNotFoundError):
        spoil(folder)
    (problem,) = preflight_problems(settings(tls=table(folder)))
    assert str(problem).startswith("tls.client_crl: ")
    assert said in str(problem)
