"""Bundles: the policy as one signed archive.

A bundle is a gzipped tar of regular files: its manifest, the Ed25519 signature of that, and the
files whose SHA-256 it has. Nothing is written before the signature is verified. ``BundleSource``
fetches them: a good one becomes the present one, and the present one stays otherwise.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import io
import os
import random
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from configparser import ConfigParser
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import IO, Self, cast
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp import hdrs
from yarl import URL

from pexpolicy.config.files import open_own, read_file, read_own, version_of, write_own
from pexpolicy.config.loader import present_bundle
from pexpolicy.config.secrets import is_signed, private_key, public_key
from pexpolicy.config.settings import MANIFEST, PRESENT, Bundle, Manifest, Settings
from pexpolicy.errors import Log, describe_network_error
from pexpolicy.tasks import run_in_thread

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


def unpack(archive: Path, keys: Iterable[bytes], folder: Path) -> Manifest:
    """Verify an archive, and write its files into an empty folder.

    ``keys`` are public keys in PEM, one of which must have signed it. Raises ``BundleError``,
    ``InvalidKeyError``, and ``OSError`` for a file.
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


def _write_files(members: tarfile.TarFile, listed: Mapping[str, str], folder: Path) -> None:
    """Write the files of a manifest into a folder."""
    missing, size = dict(listed), 0
    while (member := members.next()) is not None:
        name, size, digest = member.name, size + member.size, hashlib.sha256()
        if size > MAX_UNPACKED:
            raise BundleError(f"holds more than {MAX_UNPACKED >> 20} MB")
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise BundleError(f"holds {name!r}, a path that leads out of it")
        if name not in missing:
            raise BundleError(f"holds {name!r}, which is not in its manifest")
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(open_own(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
            data = cast("IO[bytes]", members.extractfile(member))
            while chunk := data.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
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
    try:
        with tarfile.open(archive, "r:gz", tarinfo=_Member) as old:
            files = {one.name: cast("IO[bytes]", old.extractfile(one)).read() for one in old}
        signed = files.pop(MANIFEST)
    except (*_DAMAGED, KeyError) as error:
        raise BundleError(f"is no bundle: {error}") from None
    files.pop(SIGNATURE, None)
    _write(
        archive, [(MANIFEST, signed), (SIGNATURE, private_key(key).sign(signed)), *files.items()]
    )


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


TIMEOUT_S, START_TIMEOUT_S = 60.0, 5.0
"""Seconds for one fetch, and for that at a start from a bundle on the disk."""
STAYS = "the present bundle stays"
KEPT = 3
"""Bundles that stay on the disk in addition to the present one."""
NEW = ".new"
"""The folder that a new bundle is unpacked in."""
PROBLEM = "problem"
"""The file with why the present bundle stays, for all workers."""
_CONDITIONS = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}


class BundleSource:
    """The URL of ``[bundle]``. ``log`` gets a line for each new reason why a bundle stays."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._last: tuple[object, dict[str, str], str] = (None, {}, "")
        """URL and keys, validators and refusal of the bundle that was looked at last."""
        self.problem = ""
        """Why the present bundle stays, which was logged once."""

    async def run(self, settings: Callable[[], Settings]) -> None:
        """Look again and again; ``settings`` returns those of the active policy."""
        while (bundle := settings().bundle) is not None:
            await asyncio.sleep(bundle.every * random.uniform(0.8, 1.0))  # noqa: S311 - jitter
            await self.pull(settings())

    async def pull(self, settings: Settings, *, starting: bool = False) -> str:
        """Make the bundle at the URL the present one; return why it is not, and log it."""
        if (bundle := settings.bundle) is None:
            return ""
        seconds = START_TIMEOUT_S if starting and settings.present else TIMEOUT_S
        new, found, asked = settings.bundles / NEW, dict[str, str](), None
        try:
            names = bundle.public_keys
            keys = await run_in_thread(lambda: _prepared(settings, names), "pexpolicy-bundle")
            asked = (bundle.url, keys)
            known = self._last[1] if self._last[0] == asked else {}
            async with asyncio.timeout(seconds):
                is_new = await _fetch(settings, bundle.url, new / "archive", known, found)
            if is_new:
                await run_in_thread(lambda: _accept(new, settings, keys), "pexpolicy-bundle")
                self._last = asked, found, ""
            problem = self._last[2]
        except BundleError as error:
            problem = f"the bundle {error}"
            self._last = asked, found, problem
        except TimeoutError:
            problem = f"the bundle was not complete within {seconds:g} s"
        except Exception as error:  # noqa: BLE001 - a later look may succeed
            name = getattr(error, "filename", None) or "the source of the bundle"
            problem = f"{name}: {describe_network_error(error.__cause__ or error)}"
            self._last = None, {}, ""
        if problem and problem != self.problem:
            source, present = bundle.source, str(settings.present or "none")
            is_start = starting and settings.present
            event = "the server starts with the bundle on its disk" if is_start else STAYS
            self._log.warning(event, source=source, error=problem, present=present)
        self.problem = problem
        with suppress(OSError):  # the log has it
            write_own(settings.bundles / PROBLEM, problem.encode())
        return problem


def report(settings: Settings) -> dict[str, object] | None:
    """Return what ``/status`` has of the bundle; ``problem`` is why the present one stays."""
    if settings.bundle is None or settings.present is None:
        return None
    (_, manifest), problem = settings.present, ""
    with suppress(OSError):
        problem = read_own(settings.bundles / PROBLEM, _CHUNK).decode()
    found = {"version": manifest.version, "sequence": manifest.sequence}
    return {**found, "source": settings.bundle.source, "problem": problem or None}


def _prepared(settings: Settings, names: Iterable[str]) -> list[bytes]:
    """Make an empty folder for a new bundle; return the public keys."""
    for folder in (settings.state_dir, settings.bundles):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(settings.bundles / NEW, ignore_errors=True)
    (settings.bundles / NEW).mkdir()  # fails where a link is left
    (settings.bundles / NEW / "files").mkdir()
    return [read_file(settings.resolve(name)) for name in names]


async def _fetch(
    settings: Settings, written: str, archive: Path, known: dict[str, str], found: dict[str, str]
) -> bool:
    """Write what is at the URL, as it is ``written``, into a file, and its validators into
    ``found``; return false if they are still the ``known`` ones.
    """
    # Another spelling may not fit the signature of a presigned one.
    url = URL(written, encoded=written.isascii())
    headers = {"Accept-Encoding": "identity", **known}
    if url.scheme == "file":
        path = settings.resolve(url.path)
        version = version_of(path)
        found["version"] = str(version)
        _check_size(version.size if version is not None else 0)
        if found != known:
            await run_in_thread(lambda: archive.write_bytes(read_file(path)), "pexpolicy-bundle")
        return found != known
    if url.scheme == "s3":
        name = written.removeprefix("s3://")
        url, signed = await run_in_thread(lambda: _of_object(name), "pexpolicy-bundle")
        headers |= signed
    async with (
        # Credentials and the proxy are those of the environment, as for other programs.
        aiohttp.ClientSession(trust_env=True, auto_decompress=False) as session,
        session.get(url, headers=headers) as reply,
    ):
        if reply.status == HTTPStatus.NOT_MODIFIED and known:
            return False
        if reply.status != HTTPStatus.OK:
            codes = re.findall(rb"<Code>(\w+)</Code>", await reply.content.read(4096))
            raise ValueError(f"it answers {reply.status} {b''.join(codes).decode()}".rstrip())
        given = reply.headers
        found.update({one: given[name] for name, one in _CONDITIONS.items() if name in given})
        # It may be written again in the same second (RFC 9110, 8.8.2.2).
        if given.get(hdrs.LAST_MODIFIED) == given.get(hdrs.DATE):
            found.pop(hdrs.IF_MODIFIED_SINCE, None)
        _check_size(reply.content_length or 0)
        with archive.open("wb") as file:
            async for chunk in reply.content.iter_any():
                file.write(chunk)
                _check_size(file.tell())
    return True


def _of_object(name: str) -> tuple[URL, dict[str, str]]:
    """Return the URL of an object in S3, and headers with Signature Version 4.

    ``name`` is the bucket and the key. Region, endpoint and credentials are those that the tools of
    AWS read from the environment; without credentials the request is not signed.
    """
    given = {key.lower(): value for key, value in os.environ.items() if value}
    region = given.get("aws_region") or given.get("aws_default_region", "us-east-1")
    host = given.get("aws_endpoint_url", f"https://s3.{region}.amazonaws.com")
    host = given.get("aws_endpoint_url_s3", host).rstrip("/")
    url = URL(f"{host}/{quote(name, safe='/~')}", encoded=True)
    if "aws_access_key_id" not in given:
        profiles = ConfigParser(interpolation=None, default_section="")
        file = Path(given.get("aws_shared_credentials_file", "~/.aws/credentials")).expanduser()
        with suppress(FileNotFoundError):
            profiles.read_string(read_file(file).decode())
            given |= profiles[given.get("aws_profile", "default")]
    if "aws_access_key_id" not in given:
        return url, {}
    now, payload = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}", hashlib.sha256().hexdigest()
    signed = {"host": url.host_port_subcomponent or "", "x-amz-content-sha256": payload}
    signed |= {"x-amz-date": now, "x-amz-security-token": given.get("aws_session_token", "")}
    headers = {key: value for key, value in signed.items() if value}
    names, scope = ";".join(headers), f"{now[:8]}/{region}/s3/aws4_request"
    lines = "GET", url.raw_path, "", *map(":".join, headers.items()), "", names, payload
    request = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    key = f"AWS4{given['aws_secret_access_key']}".encode()
    for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{request}"):
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"{given['aws_access_key_id']}/{scope}, SignedHeaders={names}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, Signature={key.hex()}"
    return url, headers


def _check_size(size: int) -> None:
    if size > MAX_PACKED:
        raise BundleError(f"has more than {MAX_PACKED >> 20} MB")


def _accept(new: Path, settings: Settings, keys: Sequence[bytes]) -> None:
    """Make an archive the present bundle; raises ``BundleError`` if it may not be, and ``OSError``.

    A kill at any point leaves the old or the new one: only a whole folder gets its name, and the
    last step points to it.
    """
    archive, bundles = new / "archive", settings.bundles
    present: Bundle | None = None
    with suppress(OSError, ValueError):  # there is none yet, or it is damaged
        present = present_bundle(bundles)
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if present is not None and present.folder.name == digest:
        return

    manifest = unpack(archive, keys, new / "files")
    if present is not None and manifest.sequence < present.manifest.sequence:
        raise BundleError(f"is older than the present one: its sequence is {manifest.sequence}")
    if missing := [*unmet(manifest.requires)]:
        raise BundleError(f"needs {'; '.join(missing)}")
    with suppress(FileNotFoundError):  # it may be damaged
        (bundles / digest).rename(new / digest)
    (new / "files").rename(bundles / digest)
    archive.replace(bundles / f"{digest}.tar.gz")
    write_own(bundles / PRESENT, digest.encode(), sync=True)
    serving = settings.present and settings.present.folder.name
    archives = sorted(bundles.glob("*.tar.gz"), key=lambda one: one.stat().st_mtime)
    for old in archives[: -KEPT - 1]:
        if (name := old.name.partition(".")[0]) not in (digest, serving):
            # It must not look whole while it is removed, which the next look does.
            (bundles / name).rename(new / name)
            old.unlink()
