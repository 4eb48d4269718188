"""Certificate revocation lists: reading them, and finding a client's certificate in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pexpolicy.config.files import read_file, why_unusable

if TYPE_CHECKING:
    from cryptography import x509

_LIST = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
NEVER = datetime.max.replace(tzinfo=UTC)


class RevocationListError(Exception):
    """A file of revocation lists cannot be used."""


@dataclass(frozen=True, slots=True)
class RevocationLists:
    """Revoked certificates by issuer and serial number, and when the first list expires."""

    revoked: frozenset[tuple[x509.Name, int]]
    next_update: datetime

    def contains(self, certificate: bytes) -> bool:
        """Return whether a certificate (DER) is revoked."""
        from cryptography import x509  # noqa: PLC0415 - only where there is a list: it is large

        shown = x509.load_der_x509_certificate(certificate)
        return (shown.issuer, shown.serial_number) in self.revoked


def read_revocation_lists(path: Path, authorities: Path) -> RevocationLists:
    """Read the lists in a PEM file; each must be signed by one of the authorities in another file.

    Raises ``RevocationListError``.
    """
    from cryptography import x509  # noqa: PLC0415 - only where there is a list: it is large

    try:
        found = [x509.load_pem_x509_crl(text) for text in _LIST.findall(_content(path))]
        known = {
            authority.subject: authority.public_key()
            for authority in x509.load_pem_x509_certificates(_content(authorities))
        }
    except ValueError:
        msg = f"{path} is damaged"
        raise RevocationListError(msg) from None
    if not found:
        msg = f"{path} holds no list in PEM: convert it with openssl crl -inform DER -out crl.pem"
        raise RevocationListError(msg)
    for one in found:
        key = known.get(one.issuer)
        if key is None or not one.is_signature_valid(key):  # type: ignore[arg-type]  # CAs sign with such keys
            msg = f"{path}: {one.issuer.rfc4514_string()} is no authority of client_ca"
            raise RevocationListError(msg)
    revoked = {(one.issuer, entry.serial_number) for one in found for entry in one}
    ends = [one.next_update_utc or NEVER for one in found]
    return RevocationLists(frozenset(revoked), min(ends))


def expired_list_warning(lists: RevocationLists | None, now: datetime) -> str:
    """Return a warning about an expired list, or nothing."""
    if lists is None or lists.next_update >= now:
        return ""
    until = f"{lists.next_update:%Y-%m-%d %H:%M} UTC"
    return f"expired on {until}: clients with a certificate are refused; publish a new list"


def _content(path: Path) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        msg = f"{path} cannot be read: {why_unusable(path, error)}"
        raise RevocationListError(msg) from None
