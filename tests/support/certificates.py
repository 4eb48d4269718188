"""Test certificates, and TLS contexts for clients."""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

NAME = "policy.example.com"


@cache
def authority(name: str = "trusted by nodes") -> trustme.CA:
    """Return the certificate authority with this name."""
    return trustme.CA(organization_name=name)


def write_pair(
    folder: Path, *, days: float = 30.0, of: str = "trusted by nodes", name: str = NAME
) -> trustme.LeafCert:
    """Write a server certificate and its key as ``server.pem`` and ``server.key``."""
    leaf = issue(days=days, of=of, name=name)
    (folder / "server.pem").write_bytes(b"".join(p.bytes() for p in leaf.cert_chain_pems))
    (folder / "server.key").write_bytes(leaf.private_key_pem.bytes())
    return leaf


def issue(
    *, days: float = 30.0, of: str = "trusted by nodes", name: str = NAME
) -> trustme.LeafCert:
    """Issue a certificate that expires in ``days``, or has expired if negative."""
    until = datetime.now(UTC) + timedelta(days=days)
    return authority(of).issue_cert(name, not_after=until, not_before=until - timedelta(days=90))


def signing_key() -> bytes:
    """Return a new Ed25519 key in PEM, as for the checkpoints of the audit."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_authority(folder: Path, of: str = "trusted by nodes") -> None:
    """Write the certificate of the authority as ``ca.pem``."""
    authority(of).cert_pem.write_to_path(str(folder / "ca.pem"))


def serial(leaf: trustme.LeafCert) -> int:
    """Return the serial number of a certificate."""
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number


def write_revocations(
    folder: Path, *revoked: trustme.LeafCert, days: float = 7.0, of: str = "trusted by nodes"
) -> None:
    """Write the authority's list of revoked certificates as ``crl.pem``; it ends in ``days``."""
    key = load_pem_private_key(authority(of).private_key_pem.bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(authority(of).cert_pem.bytes()).subject
    until = datetime.now(UTC) + timedelta(days=days)
    builder = x509.CertificateRevocationListBuilder(
        issuer, last_update=until - timedelta(days=30), next_update=until
    )
    for leaf in revoked:
        entry = x509.RevokedCertificateBuilder(serial(leaf), until - timedelta(days=20))
        builder = builder.add_revoked_certificate(entry.build())
    made = builder.sign(key, hashes.SHA256())
    (folder / "crl.pem").write_bytes(made.public_bytes(Encoding.PEM))


def tls(folder: Path, **options: object) -> Mapping[str, object]:
    """Return the ``[tls]`` table for the pair in a folder."""
    return {"certificate": str(folder / "server.pem"), "key": str(folder / "server.key"), **options}


def client_context(of: str = "trusted by nodes") -> ssl.SSLContext:
    """Return a client's context that trusts the authority and checks the name."""
    context = ssl.create_default_context()
    authority(of).configure_trust(context)
    return context
