"""TLS certificates and revocation lists: loading, and renewal when their files change.

A new connection gets the newest usable certificate. Open connections are not changed, but closed
when the certificate of the client was revoked.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import SecretStr

from pexpolicy.config.files import Look, missing_hint, read_file, stat_files, why_unusable
from pexpolicy.config.problems import Problem
from pexpolicy.config.schema.server import TlsTable
from pexpolicy.config.secrets import SecretError
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.errors import Log, describe_error
from pexpolicy.tasks import run_in_thread

if TYPE_CHECKING:
    from cryptography import x509

CERTIFICATE_POLL_INTERVAL_S = 1.0
WARNING_DAYS = 21.0
"""Days before expiry from which warnings are given."""
_ALWAYS = datetime.min.replace(tzinfo=UTC)
NEVER = datetime.max.replace(tzinfo=UTC)
_LIST = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class CertificateError(Exception):
    """A certificate cannot be used; ``key`` is the key of ``[tls]`` that names it."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Paths of the files, and the settings of a handshake."""

    certificate: Path
    key: Path
    password: SecretStr | None
    client_ca: Path | None
    client_crl: Path | None
    client_certificate: Literal["required", "optional"]
    min_version: Literal["1.2", "1.3"]

    @classmethod
    def of(cls, table: TlsTable, folder: Path) -> CertificateFiles:
        """Return what a table configures, with paths relative to ``folder``. Raises
        ``SecretError``.
        """
        source = table.secret("key_password")
        password = SecretStr(source.read(folder)) if source.places else None
        return cls(
            folder / table.certificate,
            folder / table.key,
            password,
            folder / table.client_ca if table.client_ca is not None else None,
            folder / table.client_crl if table.client_crl is not None else None,
            table.client_certificate,
            table.min_version,
        )

    def versions(self) -> Look:
        """Return the present versions of the files, without reading them."""
        files = (self.certificate, self.key, self.client_ca, self.client_crl)
        return stat_files(path for path in files if path is not None)


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

    Raises ``CertificateError``.
    """
    from cryptography import x509  # noqa: PLC0415 - only where there is a list: it is large

    try:
        found = [x509.load_pem_x509_crl(text) for text in _LIST.findall(read_file(path))]
        known = {
            authority.subject: authority.public_key()
            for authority in x509.load_pem_x509_certificates(read_file(authorities))
        }
    except (OSError, ValueError) as error:
        raise CertificateError("client_crl", describe_pem_error(path, error)) from None
    if not found:
        msg = f"{path} holds no list in PEM: convert it with openssl crl -inform DER -out crl.pem"
        raise CertificateError("client_crl", msg)
    for one in found:
        key = known.get(one.issuer)
        if key is None or not one.is_signature_valid(key):  # type: ignore[arg-type]  # CAs sign with such keys
            msg = f"{path}: {one.issuer.rfc4514_string()} is no authority of client_ca"
            raise CertificateError("client_crl", msg)
    revoked = {(one.issuer, entry.serial_number) for one in found for entry in one}
    ends = [one.next_update_utc or NEVER for one in found]
    return RevocationLists(frozenset(revoked), min(ends))


def expired_list_warning(lists: RevocationLists | None, now: datetime) -> str:
    """Return a warning about an expired list, or nothing."""
    if lists is None or lists.next_update >= now:
        return ""
    until = f"{lists.next_update:%Y-%m-%d %H:%M} UTC"
    return f"expired on {until}: clients with a certificate are refused; publish a new list"


@dataclass(frozen=True, slots=True)
class LoadedCertificate:
    """A usable certificate and its expiry, and the revoked certificates of clients."""

    context: ssl.SSLContext
    not_after: datetime
    versions: Look
    revocations: RevocationLists | None = None
    not_before: datetime = _ALWAYS


def load(source: CertificateFiles) -> LoadedCertificate:
    """Read all files; raises ``CertificateError``."""
    versions = source.versions()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[source.min_version]
    context.set_alpn_protocols(["http/1.1"])
    # Renegotiation costs CPU time and has no use here.
    context.options |= ssl.OP_NO_RENEGOTIATION
    leaf = _leaf(source.certificate)
    _load_pair(context, source)
    if source.client_ca is not None:
        required = source.client_certificate == "required"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        # A resumed session does not verify the certificate of the client again.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        try:
            read_file(source.client_ca)  # OpenSSL would wait for a pipe
            context.load_verify_locations(source.client_ca)
        except (OSError, ValueError) as error:
            text = describe_pem_error(source.client_ca, error)
            raise CertificateError("client_ca", text) from None
    lists = _load_revocations(context, source)
    until, since = leaf.not_valid_after_utc, leaf.not_valid_before_utc
    return LoadedCertificate(context, until, versions, lists, since)


def _load_revocations(context: ssl.SSLContext, source: CertificateFiles) -> RevocationLists | None:
    if source.client_ca is None or source.client_crl is None:
        return None
    lists = read_revocation_lists(source.client_crl, source.client_ca)
    try:
        context.load_verify_locations(source.client_crl)
    except (OSError, ValueError) as error:
        text = describe_pem_error(source.client_crl, error)
        raise CertificateError("client_crl", text) from None
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return lists


def client_not_after(transport: asyncio.BaseTransport) -> float | None:
    """Return when the certificate of a client expires, in seconds since the epoch; ``None`` if it
    presented none.
    """
    certificate = transport.get_extra_info("peercert")
    return ssl.cert_time_to_seconds(certificate["notAfter"]) if certificate else None


def _leaf(path: Path) -> x509.Certificate:
    from cryptography import x509  # noqa: PLC0415 - only where there is [tls]: it is large

    try:
        return x509.load_pem_x509_certificates(read_file(path))[0]
    except (OSError, ValueError) as error:
        raise CertificateError("certificate", describe_pem_error(path, error)) from None


def _load_pair(context: ssl.SSLContext, source: CertificateFiles) -> None:
    # Without a password OpenSSL would ask for one on the terminal.
    password = source.password.get_secret_value() if source.password is not None else ""
    content = b""
    try:
        content = read_file(source.key)
        context.load_cert_chain(source.certificate, source.key, password)
    except (OSError, ValueError) as error:
        text = describe_pem_error(source.key, error)
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            text = f"{source.key} is not the key of {source.certificate}"
        elif isinstance(error, ssl.SSLError) and b"ENCRYPTED" in content:
            text = f"{source.key} has another password than the one that is configured"
            if source.password is None:
                named = "name it in tls.key_password_file or tls.key_password_env"
                text = f"{source.key} has a password: {named}"
        raise CertificateError("key", text) from None


def describe_pem_error(path: Path, error: OSError | ValueError) -> str:
    """Describe why OpenSSL or the system refused a file."""
    if "-----BEGIN" in str(path):
        return "this is the content of a file: write the path of the file that holds it"
    reason = getattr(error, "reason", None)
    if isinstance(error, FileNotFoundError):
        return f"{path} is not there{missing_hint(path)}"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return f"{path} cannot be used: {why_unusable(path, error)}"
    why = reason.replace("_", " ").lower() if reason else "it is not a PEM file, or is damaged"
    return f"{path} cannot be used: {why}"


def certificate_warnings(certificate: Path, now: datetime) -> Iterator[str]:
    """Yield why nodes refuse a certificate that can be loaded. Raises ``CertificateError``."""
    from cryptography import x509  # noqa: PLC0415 - as above

    leaf = _leaf(certificate)
    if text := expiry_warning(leaf.not_valid_after_utc, now):
        yield text
    if leaf.not_valid_before_utc > now:
        yield (
            f"is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: nodes refuse it; "
            "is the clock right?"
        )
    if not any(isinstance(one.value, x509.SubjectAlternativeName) for one in leaf.extensions):
        yield (
            "names no host (subjectAltName): nodes that compare the name refuse it; request one "
            "with the name in the URL of the policy profile"
        )


def expiry_warning(not_after: datetime, now: datetime) -> str:
    """Return a warning about the expiry of a certificate, or nothing."""
    days = (not_after - now).total_seconds() / 86400
    if days < 0:
        return f"expired on {not_after:%Y-%m-%d}: nodes refuse it, and use their own database"
    return f"expires in {days:.0f} days, on {not_after:%Y-%m-%d}" if days < WARNING_DAYS else ""


class Certificates:
    """The certificate for new connections.

    ``problem`` says why the present files are not used; it is empty if they are.
    """

    def __init__(self, source: CertificateFiles, log: Log) -> None:
        """Load the files; raises ``CertificateError``."""
        self._source = source
        self._log = log
        self._loaded = load(source)
        self._tried = self._loaded.versions
        self._failed: str | None = None
        self.problem = ""
        self.renewals = 0

    @property
    def _authorities(self) -> object:
        """The version of the file of the authorities that sign certificates of clients."""
        path = self._source.client_ca
        return path and self._loaded.versions[path]

    @property
    def context(self) -> ssl.SSLContext:
        """The TLS context of the next connection."""
        return self._loaded.context

    @property
    def not_after(self) -> datetime:
        """The expiry of the certificate in use."""
        return self._loaded.not_after

    @property
    def has_revocations(self) -> bool:
        """True where there are revocation lists."""
        return self._loaded.revocations is not None

    def is_revoked(self, certificate: bytes) -> bool:
        """Return whether the certificate of a client (DER) is revoked."""
        lists = self._loaded.revocations
        return lists is not None and lists.contains(certificate)

    async def watch(self, on_renewal: Callable[..., object]) -> None:
        """Poll the files in a thread until this is cancelled, as a file server may hang; call
        ``on_renewal`` after changed files were loaded, with whether ``of_authorities`` of clients.
        """
        while True:
            await asyncio.sleep(CERTIFICATE_POLL_INTERVAL_S)
            renewals = self.renewals
            authorities = self._authorities
            try:
                await run_in_thread(self.check_files, "pexpolicy-tls")
                if self.renewals != renewals:
                    on_renewal(of_authorities=self._authorities != authorities)
            except Exception as error:  # noqa: BLE001 - the next check may succeed
                self._alarm(f"tls: the files cannot be checked: {describe_error(error).summary}")

    def check_files(self) -> None:
        """Load changed files. Unusable ones are reported at the second check, because the first may
        fall between the two writes of a renewal.
        """
        versions = self._source.versions()
        if versions == self._tried:
            if self._failed is not None:
                self._alarm(self._failed)
            else:
                self._check_list_expiry()
            return
        self._tried = versions
        before = self._loaded.versions
        try:
            self._loaded = self._load_valid()
        except CertificateError as error:
            self._failed = f"tls.{error.key}: {error}"
            return
        self._tried = self._loaded.versions
        self._failed = None
        self.problem = ""
        self.renewals += 1
        warning = expiry_warning(self.not_after, datetime.now(UTC))
        also = {"problem": f"tls.certificate: {warning}"} if warning else {}
        pair = (self._source.certificate, self._source.key)
        is_renewed = any(self._tried[file] != before[file] for file in pair)
        event = "certificate renewed" if is_renewed else "client_ca or client_crl loaded again"
        self._log.warning(event, not_after=self.not_after.isoformat(), **also)

    def _load_valid(self) -> LoadedCertificate:
        """Load the files; raises ``CertificateError`` for an expired certificate too.

        At the start one is accepted, as there is no better one.
        """
        loaded = load(self._source)
        if loaded.not_after < datetime.now(UTC):
            text = f"{self._source.certificate} expired on {loaded.not_after:%Y-%m-%d}"
            raise CertificateError("certificate", text)
        now = datetime.now(UTC)
        if loaded.not_before > now:
            text = f"{self._source.certificate} is not valid before {loaded.not_before}"
            raise CertificateError("certificate", text)
        if not expired_list_warning(self._loaded.revocations, now) and (
            text := expired_list_warning(loaded.revocations, now)
        ):
            raise CertificateError("client_crl", f"{self._source.client_crl} {text}")
        return loaded

    def _check_list_expiry(self) -> None:
        text = expired_list_warning(self._loaded.revocations, datetime.now(UTC))
        problem = text and f"tls.client_crl: {self._source.client_crl} {text}"
        if problem and problem != self.problem:
            self._log.warning("client certificates are refused", problem=problem)
        self.problem = problem

    def _alarm(self, problem: str) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        self._log.warning(
            "certificate not renewed; the old one is served",
            problem=problem,
            not_after=self.not_after.isoformat(),
        )


def certificates_of(settings: Settings, log: Log) -> Certificates | None:
    """Return the certificates of ``[tls]``, if it is there; raises ``ConfigError``."""
    if settings.tls is None:
        return None
    try:
        return Certificates(CertificateFiles.of(settings.tls, settings.path.parent), log)
    except (CertificateError, SecretError) as error:
        raise ConfigError(settings.path, [Problem(("tls", error.key), str(error))]) from None
