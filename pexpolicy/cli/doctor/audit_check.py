"""Checks of the audit file: the chain, its signatures and an anchor to note."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from pexpolicy.audit import reader
from pexpolicy.audit.hash_chain import Verifier
from pexpolicy.audit.verify import Verification
from pexpolicy.cli.doctor.findings import Finding
from pexpolicy.config.settings import Settings
from pexpolicy.config.signing_key import InvalidKeyError, private_key

MAX_BYTES = 64_000_000
"""Larger files take seconds to verify, which ``pexpolicy audit verify`` does with progress."""


def audit_findings(settings: Settings) -> Iterator[Finding]:
    """Yield the state of the current audit file."""
    if settings.audit.path is None:
        yield Finding("audit", "skipped", "written to standard output: audit verify --file FILE")
        return
    path = settings.resolve(settings.audit.path)
    if not path.is_file():
        yield Finding("audit", "skipped", f"{path} does not exist yet")
        return
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            text = f"{path} has {size / 1e6:,.0f} MB and was not verified here"
            yield Finding("audit", "skipped", text, "pexpolicy audit verify")
            return
        verification = Verification(_verifier(settings))
        faults = list(islice(verification.verify(reader.raw_lines([path])), 3))
    except OSError as error:
        yield Finding("audit", "error", f"{path} cannot be read: {error.strerror}")
        return
    for fault in faults:
        yield Finding("audit", "error", str(fault), "pexpolicy audit verify")
    if not faults:
        yield Finding("audit", "ok", f"{verification.lines:,} lines of {path.name}, none changed")
    yield from _anchors(verification, is_signed=settings.sign_key is not None)


def _verifier(settings: Settings) -> Verifier | None:
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - only with an audit file
        Encoding,
        PublicFormat,
    )

    if settings.sign_key is None:
        return None
    try:
        key = private_key(settings.sign_key.get_secret_value()).public_key()
    except InvalidKeyError:
        # It is among the errors of the configuration.
        return None
    return Verifier(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _anchors(verification: Verification, *, is_signed: bool) -> Iterator[Finding]:
    if not is_signed:
        text = "not signed: who may write the file can rewrite it"
        yield Finding("anchors", "warning", text, "set audit.sign_key_file, or note anchors")
    if verification.chains:
        last = list(verification.chains.values())[-1]
        text = f"{last.last}:{last.head.decode()}"
        yield Finding("anchors", "ok", text, "note it on another machine: audit verify --anchor")
