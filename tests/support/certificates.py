"""Certificates that are made on the spot, and clients that show them."""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import trustme

NAME = "policy.example.com"


@cache
def authority(name: str = "nodes trust it") -> trustme.CA:
    """A certificate authority; another name is another one."""
    return trustme.CA(organization_name=name)


def write_pair(folder: Path, *, days: float = 30.0, of: str = "nodes trust it") -> trustme.LeafCert:
    """A server certificate and its key, as ``server.pem`` and ``server.key``."""
    leaf = issued(days=days, of=of)
    (folder / "server.pem").write_bytes(b"".join(p.bytes() for p in leaf.cert_chain_pems))
    (folder / "server.key").write_bytes(leaf.private_key_pem.bytes())
    return leaf


def issued(*, days: float = 30.0, of: str = "nodes trust it") -> trustme.LeafCert:
    """A certificate that expires in so many days, or is expired."""
    until = datetime.now(UTC) + timedelta(days=days)
    return authority(of).issue_cert(NAME, not_after=until, not_before=until - timedelta(days=90))


def write_authority(folder: Path, of: str = "nodes trust it") -> None:
    """The certificate of the authority, as ``ca.pem``."""
    authority(of).cert_pem.write_to_path(str(folder / "ca.pem"))


def tls(folder: Path, **also: object) -> Mapping[str, object]:
    """The table of a configuration with the pair in a folder."""
    return {
        "certificate": str(folder / "server.pem"),
        "key": str(folder / "server.key"),
        **also,
    }


def trusting(of: str = "nodes trust it") -> ssl.SSLContext:
    """The context of a client that trusts the authority and checks the name."""
    context = ssl.create_default_context()
    authority(of).configure_trust(context)
    return context
