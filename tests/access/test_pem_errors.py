"""Certificates and keys that cannot be used, and those that nodes may refuse."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from pexpolicy.access.certificates import CertificateError, CertificateFiles, Certificates, load
from tests.support import certificates
from tests.support.fake_plugins import Log


def files(folder: Path) -> CertificateFiles:
    certificate, key = folder / "server.pem", folder / "server.key"
    return CertificateFiles(certificate, key, None, None, None, "required", "1.2")


def der(folder: Path) -> None:
    leaf = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    (folder / "server.pem").write_bytes(leaf.public_bytes(Encoding.DER))


def der_key(folder: Path) -> None:
    key = load_pem_private_key((folder / "server.key").read_bytes(), None)
    form = (Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.key").write_bytes(key.private_bytes(*form))


def changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return write


def linked(folder: Path) -> None:
    (folder / "server.key").unlink()
    (folder / "server.key").symlink_to("/etc/nowhere/privkey.pem")


def swapped(folder: Path) -> None:
    (folder / "server.pem").write_bytes((folder / "server.key").read_bytes())


def of_another(folder: Path) -> None:
    key = generate_private_key(SECP256R1())
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.key").write_bytes(key.private_bytes(*form))


def of_another_type(folder: Path) -> None:
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.key").write_bytes(Ed25519PrivateKey.generate().private_bytes(*form))


MISTAKES: list[tuple[Callable[[Path], None], str, str]] = [
    (der, "certificate", "server.pem cannot be used: it holds no PEM"),
    (swapped, "certificate", "PRIVATE KEY: CERTIFICATE is needed"),
    (der_key, "key", "server.key cannot be used: it holds no PEM"),
    (
        changed("server.pem", lambda c: c.replace(b"CERTIFICATE", b"CERTIFICATE REQUEST")),
        "certificate",
        "it holds CERTIFICATE REQUEST: CERTIFICATE is needed",
    ),
    (changed("server.pem", lambda _: b"\n"), "certificate", "server.pem"),
    (changed("server.key", lambda _: b""), "key", "server.key"),
    (changed("server.pem", lambda c: c[:300]), "certificate", "server.pem"),
    (changed("server.pem", lambda c: c.decode().encode("utf-16")), "certificate", "server.pem"),
    (linked, "key", "server.key cannot be used"),
    (of_another, "key", "is not the key of"),
    (of_another_type, "key", "is not the key of"),
]


@pytest.mark.parametrize(("break_file", "key", "says"), MISTAKES)
def test_a_file_that_cannot_be_used_is_named_with_its_key(
    tmp_path: Path, break_file: Callable[[Path], None], key: str, says: str
) -> None:
    certificates.write_pair(tmp_path)
    break_file(tmp_path)
    with pytest.raises(CertificateError) as error:
        load(files(tmp_path))
    assert error.value.key == key
    assert says in str(error.value)


def test_a_certificate_of_the_future_has_a_warning(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    certificates.write_pair(tmp_path)
    loaded = load(files(tmp_path))
    assert not list(loaded.warnings(now))
    ((key, said),) = loaded.warnings(now - timedelta(days=100))
    assert key == "certificate"
    assert "is not valid before" in said


def test_a_renewed_certificate_of_the_future_is_not_served(tmp_path: Path) -> None:
    certificates.write_pair(tmp_path)
    kept = Certificates(files(tmp_path), Log())
    before = kept.loaded.not_after
    certificates.write_pair(tmp_path, days=180)
    kept.check_files()
    kept.check_files()
    assert kept.loaded.not_after == before
    assert "is not valid before" in kept.problem


def test_a_certificate_without_the_name_of_a_host_has_a_warning(tmp_path: Path) -> None:
    certificates.write_pair(tmp_path)
    key = load_pem_private_key((tmp_path / "server.key").read_bytes(), None)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "policy.example.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)  # type: ignore[arg-type]
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=90))
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
    )
    (tmp_path / "server.pem").write_bytes(made.public_bytes(Encoding.PEM))
    ((_, said),) = load(files(tmp_path)).warnings(now)
    assert "names no host" in said


def test_what_is_no_path_of_a_file_is_reported(tmp_path: Path) -> None:
    certificates.write_pair(tmp_path)
    other = files(tmp_path)._replace(certificate=tmp_path)
    with pytest.raises(CertificateError, match="name the file in it"):
        load(other)
    content = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    with pytest.raises(CertificateError, match="write the path of the file that holds it"):
        load(files(tmp_path)._replace(certificate=tmp_path / content))
