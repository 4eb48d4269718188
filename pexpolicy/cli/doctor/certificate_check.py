"""The certificate as a Conferencing Node sees it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from pexpolicy.access.certificates import CertificateError, CertificateFiles, expiry_warning, load
from pexpolicy.access.pem_errors import leaf_warnings
from pexpolicy.cli.doctor.findings import Finding
from pexpolicy.cli.http_client import LOOPBACK_OF
from pexpolicy.config.secrets import SecretError
from pexpolicy.config.settings import Settings
from pexpolicy.errors import describe_network_error

SUBJECT = "certificate"
TIMEOUT_S = 3.0
_TRUST = "the CA that Infinity trusts"


def certificate_findings(
    settings: Settings, cacert: Path | None, host: str | None, *, is_running: bool
) -> Iterator[Finding]:
    """Yield expiry, names and chain, and whether a running server sends this certificate.

    ``cacert`` is what the nodes trust, by default ``ca.pem`` next to the certificate, or the CAs of
    the system. ``host`` is the name in the URL of the nodes.
    """
    if settings.tls is None:
        yield Finding(SUBJECT, "skipped", "no [tls]: PINs and passwords are sent in clear text")
        return
    try:
        files = CertificateFiles.of(settings.tls, settings.path.parent)
        loaded = load(files)
    except (CertificateError, SecretError) as error:
        yield Finding(SUBJECT, "error", str(error))
        return
    expiry = expiry_warning(loaded.not_after, datetime.now(UTC))
    text = expiry or f"valid until {loaded.not_after:%Y-%m-%d}"
    yield Finding(SUBJECT, "warning" if expiry else "ok", text)
    for doubt in leaf_warnings(files.certificate, datetime.now(UTC)):
        yield Finding(SUBJECT, "error", doubt)
    leaf = x509.load_pem_x509_certificates(files.certificate.read_bytes())[0]
    names = _names(leaf)
    if not names:
        text = "it has no subject alternative name: clients do not use the common name"
        yield Finding(SUBJECT, "error", text, "request one with the host name of the URL")
        return
    yield _chain(files, cacert, host, names)
    if is_running:
        yield _served(settings, leaf)


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _chain(
    files: CertificateFiles, cacert: Path | None, host: str | None, names: list[str]
) -> Finding:
    authority = files.certificate.with_name("ca.pem")
    trusted = cacert or (authority if authority.is_file() else None)
    by = "the CAs of this system" if trusted is None else str(trusted)
    shown = f"names: {', '.join(names)}"
    try:
        problem = verify_chain(files, trusted, host)
    except (OSError, ValueError) as error:
        return Finding(SUBJECT, "error", f"{by}: {describe_network_error(error)}")
    if not problem:
        return Finding(SUBJECT, "ok", f"its chain is trusted by {by}; {shown}")
    if trusted is None:
        return Finding(
            SUBJECT,
            "warning",
            f"not trusted by {by}: {problem}",
            f"check it with --cacert, {_TRUST}",
        )
    advice = "append the intermediate certificates to the file, or correct the name or the CA"
    return Finding(SUBJECT, "error", f"not trusted by {by}: {problem}; {shown}", advice)


def verify_chain(files: CertificateFiles, trusted: Path | None, host: str | None) -> str:
    """Return why a client would refuse the certificate, or nothing.

    The handshake is made in memory. Raises ``OSError`` for files that cannot be read.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    password = None if files.password is None else files.password.get_secret_value()
    server.load_cert_chain(files.certificate, files.key, password)
    client = ssl.create_default_context(cafile=trusted)
    client.check_hostname = host is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=host)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (asking, answering, asking):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return str(error.verify_message)
    return ""


def _served(settings: Settings, leaf: x509.Certificate) -> Finding:
    """Compare the certificate of the running server with the file."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host = LOOPBACK_OF.get(settings.server.host, settings.server.host)
    try:
        with (
            socket.create_connection((host, settings.server.port), TIMEOUT_S) as connection,
            context.wrap_socket(connection) as secured,
        ):
            sent = secured.getpeercert(binary_form=True)
    except OSError as error:
        text = f"no TLS handshake with {host}:{settings.server.port}: "
        return Finding(SUBJECT, "error", text + describe_network_error(error))
    if sent is None or x509.load_der_x509_certificate(sent) != leaf:
        text = "the server sends another certificate than the file has"
        return Finding(SUBJECT, "error", text, "pexpolicy status tells why it was not loaded")
    return Finding(SUBJECT, "ok", "the server sends the certificate of the file")
