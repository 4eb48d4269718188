"""Bundles for tests: whole ones, and all that a server must refuse."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

from click.testing import CliRunner, Result

from pexpolicy.cli.main import main

POLICY = '[plugins.rooms.settings]\ncsv = "rooms.csv"\n'
ROWS = "aliases,name\nboard@example.com,Board\n"
Change = Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


class Maker:
    """Makes bundles of one policy in a folder, with keys of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "policy").mkdir()
        self.write(POLICY, rooms_csv=ROWS)
        for name in ("now", "retired"):
            assert run("bundle", "keygen", folder / name).exit_code == 0

    def write(self, policy: str = POLICY, **files: str) -> None:
        (self.folder / "policy" / "policy.toml").write_text(policy)
        for name, content in files.items():
            (self.folder / "policy" / name.replace("_", ".")).write_text(content)

    def archive(self, sequence: int, key: str = "now") -> Path:
        """Return a signed bundle."""
        found = self.folder / f"{sequence}-{key}.tar.gz"
        options = ("--sequence", str(sequence), "--version", f"v{sequence}")
        for command in (
            ("build", self.folder / "policy", found, *options),
            ("sign", found, self.folder / f"{key}.key"),
        ):
            done = run("bundle", *command)
            assert done.exit_code == 0, done.output
        return found

    def requiring(self, sequence: int, requires: Mapping[str, str]) -> Path:
        """Return a signed bundle with other requirements."""

        def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
            manifest = {**json.loads(members[0][1]), "requires": requires}
            members[0] = member("manifest.json", json.dumps(manifest).encode())

        found = changed(self.archive(sequence), change)
        assert run("bundle", "sign", found, self.folder / "now.key").exit_code == 0
        return found


def member(name: str, content: bytes = b"", **facts: object) -> tuple[tarfile.TarInfo, bytes]:
    found = tarfile.TarInfo(name)
    found.size = len(content)
    for key, value in facts.items():
        setattr(found, key, value)
    return found, content


def changed(archive: Path, change: Change) -> Path:
    """Return a copy with other members."""
    with tarfile.open(archive) as old:
        members = [(one, file.read()) for one in old if (file := old.extractfile(one))]
    change(members)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as new:
        for one, content in members:
            new.addfile(one, io.BytesIO(content))
    copy = archive.with_name(f"changed-{archive.name}")
    copy.write_bytes(packed.getvalue())
    return copy


def adding(name: str, content: bytes = b"x", **facts: object) -> Callable[[Path], bytes]:
    def add(archive: Path) -> bytes:
        one = member(name, content, **facts)
        return changed(archive, lambda members: members.append(one)).read_bytes()

    return add


def swapped(archive: Path) -> bytes:
    """Return a bundle with other rooms below the same signature."""

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        number = next(n for n, (one, _) in enumerate(members) if one.name == "rooms.csv")
        members[number] = member("rooms.csv", ROWS.replace("Board", "Fraud").encode())

    return changed(archive, change).read_bytes()


def forged(archive: Path) -> bytes:
    """Return a bundle with another manifest below the same signature."""

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[0] = member("manifest.json", members[0][1].replace(b'"v', b'"w'))

    return changed(archive, change).read_bytes()


def without(name: str) -> Callable[[Path], bytes]:
    def remove(archive: Path) -> bytes:
        def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
            members[:] = [one for one in members if one[0].name != name]

        return changed(archive, change).read_bytes()

    return remove


def swollen(archive: Path) -> bytes:
    """Return a manifest of 1 GB in front, packed to 1 MB."""
    packed = io.BytesIO()
    head = member("manifest.json", b"")[0]
    head.size = 1 << 30
    with gzip.open(packed, "wb", compresslevel=1) as file:
        file.write(head.tobuf())
        for _ in range(64):
            file.write(bytes(1 << 20))
    return packed.getvalue()
