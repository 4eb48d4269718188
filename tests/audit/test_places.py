"""Links, devices and pipes in place of the file, and disks that are too small or hang."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.audit.server import Server
from pexpolicy.audit.spool import Spool
from pexpolicy.audit.targets import SMALLEST_BLOCK
from tests.audit.places import Place, body, faults, lines
from tests.support import live_server, wire
from tests.support.fake_plugins import open_audit
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


def to_a_file(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))
    path.with_name("elsewhere").write_bytes(b"")


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def null(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("making a device is not permitted here")


MAKERS: dict[str, Callable[[Path], None]] = {
    "a link to null": lambda path: path.symlink_to("/dev/null"),
    "a link to full": lambda path: path.symlink_to("/dev/full"),
    "a link to a file": to_a_file,
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a socket": unix_socket,
    "null": null,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_what_is_no_file_is_said_and_not_written_to(
    tmp_path: Path, place: Place, make: Callable[[Path], None]
) -> None:
    place.fill([0])
    moved = place.path.rename(tmp_path / "moved")
    make(place.path)
    place.clock.pass_by(2.0)
    place.fill([1, 2])
    place.clock.pass_by(2.0)
    place.journal.tick()
    assert place.status == "degraded"
    assert len(place.alerts) == 1
    if (tmp_path / "elsewhere").exists():
        assert (tmp_path / "elsewhere").read_bytes() == b""
    place.path.rename(tmp_path / "gone")
    place.recover()
    assert place.status == "healthy"
    assert place.numbers == [1, 2]
    assert faults(moved, place.path) == []


async def test_no_decision_leaves_while_a_pipe_is_in_the_place_of_a_required_audit(
    tmp_path: Path,
) -> None:
    config = tmp_path / "config.toml"
    table = 'path = "audit.jsonl"\nlevel = "required"\non_fail = "reject"'
    config.write_text(f"[audit]\n{table}\n")
    with live_server.running(config) as server:
        server.audit.rename(tmp_path / "moved")
        server.audit.symlink_to("/dev/null")
        wait_until(lambda: server.ask(wire.SERVICE).json["action"] == "reject")
        assert server.operator("/status").json["audit"]["problem"] == "a link has replaced it"
        server.audit.unlink()
        os.mkfifo(server.audit)
        named = "a device or a pipe has replaced it"
        wait_until(lambda: server.operator("/status").json["audit"]["problem"] == named)
        assert server.ask(wire.SERVICE).json["action"] == "reject"
        server.audit.unlink()
        wait_until(lambda: server.ask(wire.SERVICE).json["action"] == "continue")
        healthy = "healthy"
        wait_until(lambda: server.operator("/status").json["audit"]["status"] == healthy)


@contextmanager
def disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    place = folder / "disk"
    place.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "pexpolicy-test", str(place))
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a disk is not permitted here")
    try:
        yield place
    finally:
        subprocess.run(("umount", "--lazy", str(place)), check=True)


def test_a_spool_that_is_larger_than_the_free_disk_is_taken_over_bit_by_bit(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    waiting = Spool(spool, "a" * 16, 1 << 22)
    for number in range(4000):
        waiting.append(body(number, "x" * 200) + b"\n")
    waiting.close()
    with disk(tmp_path, 400) as place:
        path = place / "audit.jsonl"
        whole: list[int] = []
        for _ in range(3):
            open_audit(path, spool=str(spool)).close()
            content = path.read_bytes()
            assert b" " * 8 not in content
            whole += [line["n"] for line in lines(path)]
            assert len(whole) < 4000
            path.unlink()
        open_audit(path, spool=str(spool)).close()
        whole += [line["n"] for line in lines(path)]
    assert whole == list(range(4000))
    assert list(spool.iterdir()) == []


def test_a_line_after_half_a_line_that_was_taken_back_is_no_fault(tmp_path: Path) -> None:
    first, second = Place(tmp_path), Place(tmp_path)
    first.fill([1])
    whole = len(first.path.read_bytes())
    first.journal.record(body(2, "x" * 2 * SMALLEST_BLOCK))
    content = first.path.read_bytes()
    half = content[: (whole // SMALLEST_BLOCK + 2) * SMALLEST_BLOCK]
    first.path.write_bytes(half)
    second.fill([3])
    third = Place(tmp_path)
    third.fill([4])
    assert b" " * 100 + b"{" in first.path.read_bytes()
    assert faults(first.path) == []


STUCK = """
import os
from pexpolicy import hookimpl
from pexpolicy.audit.targets import AppendFile

reader, writer = os.pipe()


def write(self, lines):
    os.read(reader, 1)


AppendFile.write = write


class Stuck:
    @hookimpl
    async def service_configuration(self, request):
        return None
"""


async def test_a_disk_that_does_not_answer_does_not_keep_a_server_from_its_end(
    tmp_path: Path,
) -> None:
    (tmp_path / "stuck.py").write_text(STUCK)
    server = Server(tmp_path, 'path = "audit.jsonl"\n[plugins.stuck]')
    config = tmp_path / "config.toml"
    config.write_text(f'plugin_dirs = ["."]\n{config.read_text()}')
    await server.start()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(wire.request_bytes(wire.SERVICE, "GET", {}))
        await asyncio.sleep(0.5)
        assert await server.stop(signal.SIGTERM) == 0
