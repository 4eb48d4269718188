"""Test certificates, and TLS contexts for clients."""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import trustme

NAME = "policy.example.com"


@cache
def authority(name: str = "trusted by nodes") -> trustme.CA:
    """Return the certificate authority with this name."""
    return trustme.CA(organization_name=name)


def write_pair(
    folder: Path, *, days: float = 30.0, of: str = "trusted by nodes"
) -> trustme.LeafCert:
    """Write a server certificate and its key as ``server.pem`` and ``server.key``."""
    leaf = issue(days=days, of=of)
    (folder / "server.pem").write_bytes(b"".join(p.bytes() for p in leaf.cert_chain_pems))
    (folder / "server.key").write_bytes(leaf.private_key_pem.bytes())
    return leaf


def issue(*, days: float = 30.0, of: str = "trusted by nodes") -> trustme.LeafCert:
    """Issue a certificate that expires in ``days``, or has expired if negative."""
    until = datetime.now(UTC) + timedelta(days=days)
    return authority(of).issue_cert(NAME, not_after=until, not_before=until - timedelta(days=90))


def write_authority(folder: Path, of: str = "trusted by nodes") -> None:
    """Write the certificate of the authority as ``ca.pem``."""
    authority(of).cert_pem.write_to_path(str(folder / "ca.pem"))


def tls(folder: Path, **options: object) -> Mapping[str, object]:
    """Return the ``[tls]`` table for the pair in a folder."""
    return {
        "certificate": str(folder / "server.pem"),
        "key": str(folder / "server.key"),
        **options,
    }


def client_context(of: str = "trusted by nodes") -> ssl.SSLContext:
    """Return a client's context that trusts the authority and checks the name."""
    context = ssl.create_default_context()
    authority(of).configure_trust(context)
    return context
