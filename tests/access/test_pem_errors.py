"""Certificates and keys in another form: each message holds the way out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from pexpolicy.access.certificates import CertificateError, CertificateFiles, Certificates, load
from pexpolicy.access.pem_errors import authority_warning, chain_warning, leaf_warnings
from tests.support import certificates


def files(folder: Path) -> CertificateFiles:
    certificate, key = folder / "server.pem", folder / "server.key"
    return CertificateFiles(certificate, key, None, None, None, "required", "1.2")


def refused(folder: Path) -> str:
    with pytest.raises(CertificateError) as error:
        load(files(folder))
    return str(error.value)


def der(folder: Path) -> None:
    leaf = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    (folder / "server.pem").write_bytes(leaf.public_bytes(Encoding.DER))


def der_key(folder: Path) -> None:
    key = load_pem_private_key((folder / "server.key").read_bytes(), None)
    form = (Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.key").write_bytes(key.private_bytes(*form))


def archive(folder: Path) -> bytes:
    leaf = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    key = load_pem_private_key((folder / "server.key").read_bytes(), None)
    made = pkcs12.serialize_key_and_certificates(
        b"x",
        key,  # type: ignore[arg-type]
        leaf,
        None,
        BestAvailableEncryption(b"password"),
    )
    assert isinstance(made, bytes)
    return made


def archived(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(archive(folder))

    return write


def request(folder: Path) -> None:
    key = load_pem_private_key((folder / "server.key").read_bytes(), None)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, certificates.NAME)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    made = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    (folder / "server.pem").write_bytes(made.public_bytes(Encoding.PEM))


def public_key(folder: Path) -> None:
    key = load_pem_private_key((folder / "server.key").read_bytes(), None).public_key()
    form = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "server.key").write_bytes(key.public_bytes(*form))


def changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return write


def linked(folder: Path) -> None:
    (folder / "server.key").unlink()
    (folder / "server.key").symlink_to("/etc/nowhere/privkey.pem")


MISTAKES: list[tuple[Callable[[Path], None], str]] = [
    (der, "in binary form (DER or PKCS #12, .pfx): openssl x509 -inform DER -in "),
    (der_key, "in binary form (DER or PKCS #12, .pfx): openssl pkey -inform DER -in "),
    (archived("server.pem"), "openssl pkcs12 -in "),
    (archived("server.key"), "-nocerts -noenc -out new.pem"),
    (request, "is a request for a certificate; use the one that the authority sent back"),
    (public_key, "holds a public key, and not the private key"),
    (changed("server.pem", lambda _: b"\n"), "server.pem is empty"),
    (changed("server.key", lambda _: b""), "server.key is empty"),
    (changed("server.pem", lambda c: c[:300]), "it has no line -----END CERTIFICATE-----"),
    (
        changed("server.pem", lambda c: c.partition(b"\n")[2]),
        "has no line -----BEGIN CERTIFICATE-----",
    ),
    (changed("server.pem", lambda c: c.decode().encode("utf-16")), "is UTF-16"),
    (linked, "it is a symbolic link to /etc/nowhere/privkey.pem, which is not there"),
]


@pytest.mark.parametrize(("break_file", "says"), MISTAKES)
def test_a_file_in_another_form_is_described(
    tmp_path: Path, break_file: Callable[[Path], None], says: str
) -> None:
    certificates.write_pair(tmp_path)
    break_file(tmp_path)
    assert says in refused(tmp_path)


def test_the_certificate_of_an_authority_in_the_first_place_is_named(tmp_path: Path) -> None:
    middle = trustme.CA().create_child_ca()
    leaf = middle.issue_cert(certificates.NAME)
    (tmp_path / "server.key").write_bytes(leaf.private_key_pem.bytes())
    pems = [middle.cert_pem.bytes(), leaf.cert_chain_pems[0].bytes()]
    (tmp_path / "server.pem").write_bytes(b"".join(pems))
    assert "but of its certificate number 2: put that one first" in refused(tmp_path)
    (tmp_path / "server.pem").write_bytes(pems[0])
    assert "which is that of OU=Testing CA" in refused(tmp_path)


def test_a_certificate_of_the_future_or_of_an_authority_has_a_warning(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    leaf = certificates.write_pair(tmp_path)
    assert not list(leaf_warnings(tmp_path / "server.pem", now))
    (said,) = leaf_warnings(tmp_path / "server.pem", now - timedelta(days=100))
    assert "is not valid before" in said
    assert "is the clock right?" in said
    assert leaf is not None
    (tmp_path / "server.pem").write_bytes(certificates.authority().cert_pem.bytes())
    (said,) = leaf_warnings(tmp_path / "server.pem", now)
    assert "is that of an authority" in said


def test_a_renewed_certificate_of_the_future_is_not_served(tmp_path: Path) -> None:
    class Log:
        def warning(self, event: str, **fields: object) -> None:
            """Take a line."""

    certificates.write_pair(tmp_path)
    kept = Certificates(files(tmp_path), Log())
    before = kept.not_after
    certificates.write_pair(tmp_path, days=180)
    kept.check_files()
    kept.check_files()
    assert kept.not_after == before
    assert "is not valid before" in kept.problem


def test_a_certificate_without_the_name_of_a_host_has_a_warning(tmp_path: Path) -> None:
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "policy.example.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=9))
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "server.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (said,) = leaf_warnings(tmp_path / "server.pem", now)
    assert "names no host (subjectAltName)" in said


def test_a_file_of_authorities_without_any_has_a_warning(tmp_path: Path) -> None:
    certificates.write_pair(tmp_path)
    certificates.write_authority(tmp_path)
    assert authority_warning(tmp_path / "ca.pem") == ""
    assert "name the certificate that has signed" in authority_warning(tmp_path / "server.pem")
    assert authority_warning(tmp_path / "nothing.pem") == ""


def test_what_is_no_path_of_a_file_is_reported(tmp_path: Path) -> None:
    certificates.write_pair(tmp_path)
    other = replace(files(tmp_path), certificate=tmp_path)
    with pytest.raises(CertificateError, match="name the file in it"):
        load(other)
    content = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    with pytest.raises(CertificateError, match="write the path of the file that holds it"):
        load(replace(files(tmp_path), certificate=tmp_path / content))


@pytest.mark.parametrize(
    ("names_place", "is_whole", "says"),
    [
        (True, False, "append that certificate, which is at http://ca.example.com/issuing.crt"),
        (True, True, ""),
        (False, False, ""),
    ],
)
def test_a_certificate_without_that_of_its_intermediate_authority_is_a_warning(
    tmp_path: Path, *, names_place: bool, is_whole: bool, says: str
) -> None:
    authority = certificates.authority()
    key = load_pem_private_key(authority.private_key_pem.bytes(), None)
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")]))
        .issuer_name(issuer.subject)
        .public_key(generate_private_key(SECP256R1()).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=90))
    )
    if names_place:
        place = x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS,
            x509.UniformResourceIdentifier("http://ca.example.com/issuing.crt"),
        )
        builder = builder.add_extension(x509.AuthorityInformationAccess([place]), critical=False)
    leaf = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    chain = [leaf, issuer] if is_whole else [leaf]
    text = b"".join(one.public_bytes(Encoding.PEM) for one in chain)
    (tmp_path / "server.pem").write_bytes(text)
    assert chain_warning(tmp_path / "server.pem").endswith(says)
    assert bool(chain_warning(tmp_path / "server.pem")) is bool(says)
