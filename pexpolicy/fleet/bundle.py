"""Bundles: the policy as one signed archive.

A bundle is a gzipped tar of regular files: its manifest, the Ed25519 signature of that, and the
files whose SHA-256 it has. Nothing is written before the signature is verified.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import IO, Self, cast

import msgspec

from pexpolicy.config.secrets import is_signed, private_key, public_key
from pexpolicy.config.settings import MANIFEST, Manifest

SIGNATURE = "manifest.sig"
MAX_PACKED, MAX_UNPACKED, MAX_MANIFEST = 100 << 20, 1 << 30, 32 << 20
"""Bytes of an archive, of all its files, and of its manifest."""
_CHUNK = 1 << 18
_DAMAGED = EOFError, tarfile.TarError, zlib.error, gzip.BadGzipFile


class BundleError(Exception):
    """A bundle cannot be used."""


class _Member(tarfile.TarInfo):
    """A member of an archive: no link, no device, and no header that goes on in the data."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        stream, block = cast("IO[bytes]", archive.fileobj), tarfile.BLOCKSIZE
        found = cls.frombuf(stream.read(block), archive.encoding or "utf-8", archive.errors or "")
        if found.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or found.size < 0:
            raise BundleError(f"holds {found.name!r}, which is not a regular file")
        found.offset_data = stream.tell()
        found.offset = found.offset_data - block
        archive.offset = found.offset_data + -(-found.size // block) * block
        return found


def unpack(
    archive: Path,
    keys: Iterable[bytes],
    folder: Path | None = None,
    accept: Callable[[Manifest], None] = lambda _: None,
) -> Manifest:
    """Verify an archive, and write its files into an empty folder if one is given.

    ``keys`` are public keys in PEM, one of which must have signed it; ``accept`` may refuse the
    manifest. Raises ``BundleError``, ``InvalidKeyError``, and ``OSError`` for a file.
    """
    try:
        with (
            gzip.open(archive) as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as members,
        ):
            signed, signature = _content(members, MANIFEST), _content(members, SIGNATURE)
            if not any(is_signed(public_key(pem), signed, signature) for pem in keys):
                raise BundleError("is signed with none of the public keys, or forged")
            manifest = msgspec.json.decode(signed, type=Manifest)
            accept(manifest)
            if folder is not None:
                (folder / MANIFEST).write_bytes(signed)
            _write_files(members, manifest.files, folder)
            _ = stream.read(_CHUNK)  # to its end
    except (*_DAMAGED, msgspec.MsgspecError) as error:
        is_cut = isinstance(error, EOFError) or "unexpected end" in str(error)
        raise BundleError("is cut short" if is_cut else f"is no bundle: {error}") from None
    return manifest


def _content(members: tarfile.TarFile, name: str) -> bytes:
    """Return the content of the next member."""
    member = members.next()
    if member is None or member.name != name or member.size > MAX_MANIFEST:
        raise BundleError("is not signed" if name == SIGNATURE else f"does not begin with {name}")
    return cast("IO[bytes]", members.extractfile(member)).read()


def _write_files(members: tarfile.TarFile, listed: Mapping[str, str], folder: Path | None) -> None:
    """Read the files of a manifest, and write them into a folder if one is given."""
    missing, size = dict(listed), 0
    while (member := members.next()) is not None:
        name, size, digest = member.name, size + member.size, hashlib.sha256()
        if size > MAX_UNPACKED:
            raise BundleError(f"holds more than {MAX_UNPACKED >> 20} MB")
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise BundleError(f"holds {name!r}, a path that leads out of it")
        if name not in missing:
            raise BundleError(f"holds {name!r}, which is not in its manifest")
        target = folder / name if folder is not None else Path(os.devnull)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            data = cast("IO[bytes]", members.extractfile(member))
            while chunk := data.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno()) if folder is not None else None
        if digest.hexdigest() != missing.pop(name):
            raise BundleError(f"holds {name!r}, which differs from its manifest")
    if missing:
        raise BundleError(f"has no {next(iter(missing))!r}, which is in its manifest")


def unmet(requires: Mapping[str, str]) -> Iterator[str]:
    """Yield each distribution that is missing, or too old by the numbers in its version."""
    for name, needed in requires.items():
        installed = ""
        with suppress(metadata.PackageNotFoundError):
            installed = metadata.version(name)
        heads = (re.split(r"[^\d.]", one, maxsplit=1)[0] for one in (installed, needed))
        has, wants = ([*map(int, re.findall(r"\d+", head))] for head in heads)
        if has < wants:
            yield f"{name} {needed}, and {installed or 'none'} is installed"


def build(folder: Path, left_out: Iterable[Path], manifest: Manifest, archive: Path) -> None:
    """Write an archive of all files but hidden ones, byte code and those ``left_out``, without a
    signature; they are added to the manifest. Equal files give equal bytes.
    """
    without = {path.absolute() for path in left_out}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        is_hidden = any(part[0] == "." or part == "__pycache__" for part in name.parts)
        if path.is_file() and not is_hidden and path.absolute() not in without:
            if b"PRIVATE KEY-----" in (content := path.read_bytes()):
                raise BundleError(f"{name} holds a private key: move it to another folder")
            manifest.files[name.as_posix()] = hashlib.sha256(content).hexdigest()
    content = msgspec.json.format(msgspec.json.encode(manifest))
    files = [(name, (folder / name).read_bytes()) for name in manifest.files]
    _write(archive, [(MANIFEST, content), *files])


def sign(archive: Path, key: str) -> None:
    """Sign an archive, in place of a signature that it has; ``key`` is a private key in PEM.

    Raises ``BundleError``, ``InvalidKeyError`` and ``OSError``.
    """
    signer = private_key(key)
    try:
        with tarfile.open(archive, "r:gz", tarinfo=_Member) as old:
            signed = _content(old, MANIFEST)
            members = [one for one in old.getmembers()[1:] if one.name != SIGNATURE]
            files = [(one.name, cast("IO[bytes]", old.extractfile(one)).read()) for one in members]
    except _DAMAGED as error:
        raise BundleError(f"is no bundle: {error}") from None
    _write(archive, [(MANIFEST, signed), (SIGNATURE, signer.sign(signed)), *files])


def _write(archive: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write an archive in the place of one that there may be."""
    new = archive.with_name(f".{archive.name}.new")
    with (
        new.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as members,
    ):
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            members.addfile(member, io.BytesIO(content))
    new.replace(archive)
