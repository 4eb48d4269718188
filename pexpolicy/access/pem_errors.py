"""Descriptions of PEM files that cannot be used."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pydantic import SecretStr

from pexpolicy.config.files import read_file, why_unusable
from pexpolicy.text import printable

_TO_PEM = {
    "certificate": "openssl x509 -inform DER -in FILE -out new.pem",
    "private key": "openssl pkey -inform DER -in FILE -out new.pem",
}
_REASONS = {
    "EE_KEY_TOO_SMALL": "its key is too short: RSA needs 2048 bits at least",
    "CA_MD_TOO_WEAK": "its signature is too weak: it needs SHA-256 at least",
}


def describe_pem_error(path: Path, error: OSError | ValueError) -> str:
    """Describe why OpenSSL or the system refused a file."""
    if "-----BEGIN" in str(path):
        return "this is the content of a file: write the path of the file that holds it"
    why = "it is no PEM file, or is damaged"
    if getattr(error, "strerror", None) and isinstance(error, OSError):
        why = why_unusable(path, error)
    reason = getattr(error, "reason", None)
    if reason:
        why = _REASONS.get(reason) or reason.replace("_", " ").lower()
    return f"{path} cannot be used: {why}"


def describe_content(path: Path, wanted: str) -> str:
    """Describe a file that holds no PEM of the wanted kind, ``certificate`` or ``private key``;
    empty if it does.
    """
    try:
        content = read_file(path)
    except OSError:
        return ""
    text = content.decode("latin-1")
    article = "the certificate" if wanted == "certificate" else "the private key"
    found = {
        "is empty": not content.strip(),
        "is UTF-16: save it as plain text (UTF-8)": "\0" in text[:4],
        f"is in binary form (DER or PKCS #12, .pfx): {_converted(path, content, wanted)}": (
            content[:1] == b"\x30"
        ),
        "is a request for a certificate; use the one that the authority sent back": (
            "CERTIFICATE REQUEST-----" in text
        ),
        f"holds a public key, and not {article}": "BEGIN PUBLIC KEY-----" in text,
        f"has no line -----BEGIN {wanted.upper()}-----": f"{wanted.upper()}-----" not in text
        or "-----BEGIN " not in text,
        f"is damaged: it has no line -----END {wanted.upper()}-----": "-----END " not in text,
    }
    return next((f"{path} {why}" for why, is_so in found.items() if is_so), "")


def _converted(path: Path, content: bytes, wanted: str) -> str:
    """Return the command that converts a binary file to PEM."""
    # PKCS #12 begins with its version, 3.
    if b"\x02\x01\x03" in content[:8]:
        what = "-nokeys" if wanted == "certificate" else "-nocerts -noenc"
        return f"openssl pkcs12 -in {path} {what} -out new.pem"
    return _TO_PEM[wanted].replace("FILE", str(path))


def describe_password(key: Path, password: SecretStr | None) -> str:
    """Describe what is wrong with the password of a key; empty if that is not the problem."""
    try:
        content = read_file(key)
    except OSError:
        return ""
    if b"ENCRYPTED" not in content:
        return ""
    if password is None:
        named = "name it in tls.key_password_file or tls.key_password_env"
        return f"{key} has a password: {named}"
    return f"{key} has another password than the one that is configured"


def describe_swap(path: Path, wanted: str, other: str) -> str:
    """Describe a file that holds the other half of a pair; empty if it does not."""
    try:
        content = read_file(path).decode("latin-1")
    except OSError:
        return ""
    if f"{wanted.upper()}-----" in content or f"{other.upper()}-----" not in content:
        return ""
    return f"{path} holds a {other} and no {wanted}; are the two swapped?"


def describe_mismatch(key: Path, certificate: Path, password: str) -> str:
    """Describe a key that belongs to another certificate, or not to the first one of the file."""
    from cryptography import x509  # noqa: PLC0415 - for messages only: it is large
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - the same

    text = f"{key} is not the key of {certificate}"
    try:
        chain = x509.load_pem_x509_certificates(read_file(certificate))
        own = serialization.load_pem_private_key(
            read_file(key), password.encode() or None
        ).public_key()
    except (OSError, ValueError, TypeError):
        return text
    place = next((n for n, one in enumerate(chain, 1) if one.public_key() == own), 0)
    if place:
        return (
            f"{text}, but of its certificate number {place}: put that one first, and the "
            "certificates of authorities after it"
        )
    return f"{text}, which is that of {chain[0].subject.rfc4514_string() or 'another name'}"


def leaf_warnings(certificate: Path, now: datetime) -> Iterator[str]:
    """Yield why clients may refuse a certificate that can be loaded, besides its expiry."""
    from cryptography import x509  # noqa: PLC0415 - as above

    leaf = x509.load_pem_x509_certificates(read_file(certificate))[0]
    if leaf.not_valid_before_utc > now:
        yield (
            f"is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: nodes refuse it; "
            "is the clock right?"
        )
    with suppress(x509.ExtensionNotFound):
        if leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            yield "is that of an authority: nodes may refuse it; use one that it has signed"
            return
    if not any(isinstance(one.value, x509.SubjectAlternativeName) for one in leaf.extensions):
        yield (
            "names no host (subjectAltName): nodes that compare the name refuse it; request one "
            "with the name in the URL of the policy profile"
        )


def chain_warning(certificate: Path) -> str:
    """Return why nodes may not trust a certificate that comes alone, or nothing.

    One that names the place of its authority's certificate is, as a rule, signed by an intermediate
    authority. The authorities of this system are known to nodes.
    """
    from cryptography import x509  # noqa: PLC0415 - as above
    from cryptography.x509.oid import AuthorityInformationAccessOID  # noqa: PLC0415 - as above

    leaf, *others = x509.load_pem_x509_certificates(read_file(certificate))
    if others or leaf.issuer == leaf.subject:
        return ""
    try:
        places = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return ""
    issuers = AuthorityInformationAccessOID.CA_ISSUERS
    url = next((p.access_location.value for p in places if p.access_method == issuers), "")
    issuer = {attribute.value for attribute in leaf.issuer}
    for known in ssl.create_default_context().get_ca_certs():
        if issuer == {value for part in known["subject"] for _, value in part}:  # type: ignore[str-unpack]  # pairs
            return ""
    if not url:
        return ""
    return (
        f"has no certificate of its authority after it, {leaf.issuer.rfc4514_string()}: nodes that "
        f"know only the root refuse it; append that certificate, which is at {printable(url)}"
    )


def authority_warning(client_ca: Path) -> str:
    """Return why no client certificate is accepted with these authorities, or nothing."""
    from cryptography import x509  # noqa: PLC0415 - as above

    try:
        found = x509.load_pem_x509_certificates(read_file(client_ca))
    except (OSError, ValueError):
        return ""
    for one in found:
        try:
            if one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                return ""
        except x509.ExtensionNotFound:
            if one.issuer == one.subject:
                return ""
    return "holds no authority: name the certificate that has signed those of the clients"
