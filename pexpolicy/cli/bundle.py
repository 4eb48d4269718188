"""Commands ``pexpolicy bundle``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from pexpolicy import __version__
from pexpolicy.cli.common import build as build_policy
from pexpolicy.cli.common import count, examples, refuse
from pexpolicy.config.files import read_file, tracking
from pexpolicy.config.secrets import InvalidKeyError
from pexpolicy.config.settings import POLICY, Manifest
from pexpolicy.fleet import bundle as bundles
from pexpolicy.text import printable

FILE = click.Path(path_type=Path, dir_okay=False)
Files = dict[str, tuple[bytes, int, str]]
"""Content, mode and purpose of each file by its name."""
EXAMPLES = examples(
    "pexpolicy bundle keygen bundle-2026",
    "pexpolicy bundle build policy policy.tar.gz --version v42",
    "pexpolicy bundle sign policy.tar.gz bundle-2026.key",
    "pexpolicy bundle verify policy.tar.gz bundle-2026.pub",
)


@click.group(epilog=EXAMPLES)
def bundle() -> None:
    """Pack, sign and verify a policy for several servers."""


def key_pair() -> tuple[bytes, bytes]:
    """Return a new private key to sign with, and its public key, in PEM."""
    from cryptography.hazmat.primitives import serialization as pem  # noqa: PLC0415 - slow
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - the same

    key = ed25519.Ed25519PrivateKey.generate()
    plain = pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption()
    public = key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
    return key.private_bytes(*plain), public


@bundle.command(epilog=EXAMPLES)
@click.argument("name", type=FILE)
def keygen(name: Path) -> None:
    """Make a pair of keys: NAME.key signs bundles, NAME.pub goes to the servers."""
    private, public = key_pair()
    write_new(
        Path(),
        {
            f"{name}.key": (private, 0o600, "the private key"),
            f"{name}.pub": (public, 0o644, "the public key"),
        },
    )


def write_new(folder: Path, found: Files) -> None:
    """Write all files or none, and list them; raises ``OSError``."""
    made: list[Path] = []
    try:
        for name, (content, mode, _) in found.items():
            path = folder / name
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.touch(mode, exist_ok=False)
            made.append(path)
            path.chmod(mode)  # that of touch() is reduced by the umask
            path.write_bytes(content)
    except OSError:
        for path in made:
            path.unlink()
        raise
    for path, (_, mode, purpose) in zip(made, found.values(), strict=True):
        click.echo(f"{mode:04o}  {printable(path)}: {purpose}")


@bundle.command(epilog=EXAMPLES)
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("archive", type=FILE)
@click.option("--version", help="What people call it; default: the sequence.")
@click.option("--sequence", type=click.IntRange(0), help="It must not fall; default: the time.")
def build(folder: Path, archive: Path, version: str | None, sequence: int | None) -> None:
    """Check FOLDER/policy.toml, and pack the files of FOLDER.

    Hidden files and those with secrets of the policy are left out. Servers need the versions of
    pexpolicy and of the plugins that it was checked with, or later ones.
    """
    with tracking() as tracked:
        policy = build_policy(folder / POLICY)
    policy.close()
    used = (plugin.available for plugin in policy.plugins)
    requires = {one.distribution: one.version for one in used if one.version != "drop-in"}
    number = int(time.time()) if sequence is None else sequence
    manifest = Manifest(version or str(number), number, {"pexpolicy": __version__, **requires}, {})
    secrets = [one for one in tracked.secrets if isinstance(one, Path)]
    with _refusing(folder):
        bundles.build(folder, [*secrets, archive], manifest, archive)
    _show(archive, manifest)


@bundle.command(epilog=EXAMPLES)
@click.argument("archive", type=FILE)
@click.argument("key", type=FILE)
def sign(archive: Path, key: Path) -> None:
    """Sign ARCHIVE with the private key in the file KEY, in place of a signature that it has."""
    with _refusing(archive):
        bundles.sign(archive, read_file(key).decode())


@bundle.command(epilog=EXAMPLES)
@click.argument("archive", type=FILE)
@click.argument("keys", type=FILE, nargs=-1, required=True)
def verify(archive: Path, keys: tuple[Path, ...]) -> None:
    """Verify ARCHIVE: exit code 0 if it is whole and signed with one of the public KEYS."""
    with _refusing(archive), TemporaryDirectory() as folder:
        _show(archive, bundles.unpack(archive, map(read_file, keys), Path(folder)))


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except InvalidKeyError as error:
        refuse(f"the key {error}")
    except (bundles.BundleError, ValueError) as error:
        refuse(f"{path}: {error}", 1)


def _show(archive: Path, manifest: Manifest) -> None:
    needs = ", ".join(f"{name} {version}" for name, version in manifest.requires.items())
    text = f"{manifest.version} (sequence {manifest.sequence})"
    files = count(len(manifest.files), "file")
    click.secho(f"{archive}: {text}, {files}; needs {needs}", fg="green")
