"""TLS certificates and revocation lists: loading, and renewal when their files change.

A new connection gets the newest usable certificate. Open connections are not changed, but closed
when the certificate of the client was revoked.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from pydantic import SecretStr

from pexpolicy.config.files import Look, read_file, stat_files, why_unusable
from pexpolicy.config.problems import Problem
from pexpolicy.config.schema.server import TlsTable
from pexpolicy.config.secrets import SecretError
from pexpolicy.config.settings import ConfigError
from pexpolicy.errors import Log, describe_error
from pexpolicy.tasks import run_in_thread

if TYPE_CHECKING:
    from cryptography import x509

T = TypeVar("T")
CERTIFICATE_POLL_INTERVAL_S = 1.0
WARNING_DAYS = 21.0
"""Days before expiry from which warnings are given."""
NEVER = datetime.max.replace(tzinfo=UTC)
_LIST = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_PEM_OF = {"key": "PRIVATE KEY", "client_crl": "X509 CRL"}
"""What a file of a key holds; the others hold certificates."""
_ALTERNATIVE_NAMES = "2.5.29.17"
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class CertificateError(SecretError):
    """A certificate cannot be used; ``key`` is the key of ``[tls]`` that names it."""


class CertificateFiles(NamedTuple):
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
        optional = (table.client_ca, table.client_crl)
        ca, crl = (None if one is None else folder / one for one in optional)
        pair = folder / table.certificate, folder / table.key
        return cls(*pair, password, ca, crl, table.client_certificate, table.min_version)

    def versions(self) -> Look:
        """Return the present versions of the files, without reading them."""
        files = self.certificate, self.key, self.client_ca, self.client_crl
        return stat_files(filter(None, files))


class LoadedCertificate(NamedTuple):
    """A usable certificate, and the versions of its files when they were read."""

    context: ssl.SSLContext
    leaf: x509.Certificate
    versions: Look
    revoked: frozenset[tuple[x509.Name, int]] | None
    """Revoked certificates of clients by issuer and serial number, where there are lists."""
    next_update: datetime
    """When the first list expires."""

    @property
    def not_after(self) -> datetime:
        """The expiry of the certificate."""
        return self.leaf.not_valid_after_utc

    def problems(self, now: datetime, days: float = 0.0) -> dict[str, str]:
        """Return why clients or nodes are refused at this time, by the key of the file, and that
        the certificate expires within ``days``.
        """
        found = {}
        left = (self.not_after - now).total_seconds() / 86400
        if left < 0.0:
            text = f"expired on {self.not_after:%Y-%m-%d}: nodes use their own database"
            found["certificate"] = text
        elif (since := self.leaf.not_valid_before_utc) > now:
            text = f"is not valid before {since:%Y-%m-%d %H:%M} UTC; is the clock right?"
            found["certificate"] = text
        elif left < days:
            found["certificate"] = f"expires in {left:.0f} days, on {self.not_after:%Y-%m-%d}"
        if self.next_update < now:
            expired = f"expired on {self.next_update:%Y-%m-%d %H:%M} UTC"
            text = f"{expired}: clients with a certificate are refused; publish a new list"
            found["client_crl"] = text
        return found

    def warnings(self, now: datetime) -> Iterator[tuple[str, str]]:
        """Yield the key of each file that clients or nodes refuse, or soon will, and why."""
        yield from self.problems(now, WARNING_DAYS).items()
        if all(one.oid.dotted_string != _ALTERNATIVE_NAMES for one in self.leaf.extensions):
            text = "names no host (subjectAltName): nodes that compare the name refuse it"
            yield "certificate", text


def load(source: CertificateFiles) -> LoadedCertificate:
    """Read all files; raises ``CertificateError``."""
    from cryptography import x509  # noqa: PLC0415 - only where there is [tls]: it is large

    versions = source.versions()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[source.min_version]
    context.set_alpn_protocols(["http/1.1"])
    # Renegotiation costs CPU time and has no use here.
    context.options |= ssl.OP_NO_RENEGOTIATION
    with _reading("certificate", source.certificate):
        leaf = x509.load_pem_x509_certificates(read_file(source.certificate))[0]
    with _reading("key", source.key):
        _load_pair(context, source)
    revoked, next_update = None, NEVER
    if source.client_ca is not None:
        required = source.client_certificate == "required"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        # A resumed session does not verify the certificate of the client again.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        with _reading("client_ca", source.client_ca):
            authorities = read_file(source.client_ca)  # OpenSSL would wait for a pipe
            context.load_verify_locations(source.client_ca)
        if source.client_crl is not None:
            with _reading("client_crl", source.client_crl):
                revoked, next_update = _read_revocation_lists(source.client_crl, authorities)
                context.load_verify_locations(source.client_crl)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return LoadedCertificate(context, leaf, versions, revoked, next_update)


def _load_pair(context: ssl.SSLContext, source: CertificateFiles) -> None:
    # Without a password OpenSSL would ask for one on the terminal.
    password = source.password.get_secret_value() if source.password is not None else ""
    content = read_file(source.key)
    try:
        context.load_cert_chain(source.certificate, source.key, password)
    except ssl.SSLError as error:
        keys = "tls.key_password_file or tls.key_password_env"
        text = f"{source.key} has another password than the one that is configured in {keys}"
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
            text = f"{source.key} is not the key of the first certificate in {source.certificate}"
        elif b"ENCRYPTED" not in content:
            raise
        raise CertificateError("key", text) from None


def _read_revocation_lists(
    path: Path, authorities: bytes
) -> tuple[frozenset[tuple[x509.Name, int]], datetime]:
    """Read the lists in a PEM file; each must be signed by one of the authorities in PEM.

    Return what is revoked, and when the first one expires. Raises ``CertificateError``.
    """
    from cryptography import x509  # noqa: PLC0415 - as above

    found = [x509.load_pem_x509_crl(text) for text in _LIST.findall(read_file(path))]
    issuers = x509.load_pem_x509_certificates(authorities)
    known = {authority.subject: authority.public_key() for authority in issuers}
    for one in found:
        key = known.get(one.issuer)
        if key is None or not one.is_signature_valid(key):  # type: ignore[arg-type]  # CAs sign with such keys
            msg = f"{path}: {one.issuer.rfc4514_string()} is no authority of client_ca"
            raise CertificateError("client_crl", msg)
    revoked = frozenset((one.issuer, entry.serial_number) for one in found for entry in one)
    # Without a list this is a ValueError.
    return revoked, min(one.next_update_utc or NEVER for one in found)


@contextmanager
def _reading(key: str, path: Path) -> Iterator[None]:
    """Raise ``CertificateError`` if OpenSSL or the system refuses a file."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            why = why_unusable(path, error)
        else:
            expected = _PEM_OF.get(key, "CERTIFICATE")
            found = dict.fromkeys(one.decode() for one in _PEM.findall(read_file(path)))
            held = " and ".join(found) or "no PEM (openssl converts other forms)"
            is_damaged = any(one.endswith(expected) for one in found)
            why = "it is damaged" if is_damaged else f"it holds {held}: {expected} is needed"
        text = f"{path} cannot be used: {why}"
        if "-----BEGIN" in str(path):
            text = "this is the content of a file: write the path of the file that holds it"
        raise CertificateError(key, text) from None


class Certificates:
    """The certificate for new connections.

    ``problem`` says why the present files are not used; it is empty if they are.
    """

    problem = ""
    renewals = 0
    _failed = ""

    def __init__(self, source: CertificateFiles, log: Log) -> None:
        """Load the files; raises ``CertificateError``."""
        self._source = source
        self._log = log
        self.loaded = load(source)
        """The certificate in use."""
        self._tried = self.loaded.versions

    def is_revoked(self, certificate: bytes | None) -> bool:
        """Return whether the certificate of a client (DER) is revoked."""
        if certificate is None or self.loaded.revoked is None:
            return False
        from cryptography import x509  # noqa: PLC0415 - as above

        shown = x509.load_der_x509_certificate(certificate)
        return (shown.issuer, shown.serial_number) in self.loaded.revoked

    async def watch(self, on_renewal: Callable[..., object]) -> None:
        """Poll the files in a thread until this is cancelled, as a file server may hang; call
        ``on_renewal`` after changed files were loaded, with whether ``of_authorities`` of clients.
        """
        while True:
            await asyncio.sleep(CERTIFICATE_POLL_INTERVAL_S)
            try:
                if renewed := await run_in_thread(self.check_files, "pexpolicy-tls"):
                    on_renewal(of_authorities=self._source.client_ca in renewed)
            except Exception as error:  # noqa: BLE001 - the next check may succeed
                self._report(f"tls: the files cannot be checked: {describe_error(error).summary}")

    def check_files(self) -> set[Path]:
        """Load changed files, and return them. Unusable ones are reported at the second check,
        because the first may fall between the two writes of a renewal.
        """
        before, versions, now = self.loaded, self._source.versions(), datetime.now(UTC)
        if versions == self._tried:
            expired = before.problems(now).get("client_crl")
            text = f"tls.client_crl: {self._source.client_crl} {expired}" if expired else ""
            self._report(self._failed or text)
            return set()
        self._tried, self._failed = versions, ""
        try:
            loaded = load(self._source)
        except CertificateError as error:
            self._failed = f"tls.{error.key}: {error}"
            return set()
        # Expired files do not replace valid ones.
        problems = loaded.problems(now)
        for key in problems.keys() - before.problems(now).keys():
            self._failed = f"tls.{key}: {getattr(self._source, key)} {problems[key]}"
        if self._failed:
            return set()
        self.loaded, self._tried, self.problem = loaded, loaded.versions, ""
        self.renewals += 1
        renewed = {path for path, one in self._tried.items() if one != before.versions[path]}
        warning = loaded.problems(now, WARNING_DAYS).get("certificate")
        more = {"problem": f"tls.certificate: {warning}"} if warning else {}
        files, not_after = sorted(map(str, renewed)), loaded.not_after.isoformat()
        self._log.warning("certificate renewed", **more, files=files, not_after=not_after)
        return renewed

    def _report(self, problem: str) -> None:
        if problem and problem != self.problem:
            event = "certificate not renewed; the old one is served"
            not_after = self.loaded.not_after.isoformat()
            self._log.warning(event, problem=problem, not_after=not_after)
        self.problem = problem


def configured(path: Path, table: TlsTable, made: Callable[[CertificateFiles], T]) -> T:
    """Return what is made of the files of ``[tls]`` in a configuration; raises ``ConfigError``."""
    try:
        return made(CertificateFiles.of(table, path.parent))
    except SecretError as error:
        raise ConfigError(path, [Problem(("tls", error.key), str(error))]) from None
