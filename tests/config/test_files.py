"""Reading of configuration files: regular files only, within a time limit."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pexpolicy.background.refreshed import CacheFileError
from pexpolicy.config import files
from pexpolicy.config.csv_tables import TableError, TableRow, read_table
from pexpolicy.config.files import open_own, read_file, read_own
from pexpolicy.config.loader import load
from pexpolicy.config.secrets import SecretError, read_secret
from pexpolicy.config.settings import ConfigError
from pexpolicy.config.toml_tables import read_tables
from pexpolicy.files import CacheFile

IRREGULAR: list[Callable[[Path], object]] = [
    os.mkfifo,
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.symlink_to("/dev/null"),
]
READERS: list[Callable[[Path], object]] = [
    load,
    lambda path: list(read_table(path, TableRow)),
    lambda path: read_tables(path, "rules"),
    lambda path: read_secret("token", None, path.name, path.parent),
]


@pytest.mark.parametrize("make", IRREGULAR)
@pytest.mark.parametrize("read", READERS)
def test_a_pipe_or_device_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], object], read: Callable[[Path], object]
) -> None:
    make(tmp_path / "file")
    with pytest.raises((ConfigError, TableError, SecretError)) as error:
        read(tmp_path / "file")
    assert "cannot be read: it is not a regular file" in str(error.value)


def test_a_read_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def read(_: Path) -> bytes:
        answers.wait()
        return b""

    monkeypatch.setattr(files, "_read_regular", read)
    try:
        with pytest.raises(TimeoutError) as error:
            read_file(tmp_path / "file", timeout=0.01)
        assert error.value.strerror == "no answer within 0.01 s"
    finally:
        answers.set()


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "folder").mkdir()
    before = sorted(Path("/proc/self/fd").iterdir())
    assert read_file(tmp_path / "file") == b"content"
    for name, code in (("folder", errno.EISDIR), ("missing", errno.ENOENT)):
        with pytest.raises(OSError, match=name) as error:
            read_file(tmp_path / name)
        assert error.value.errno == code
    assert sorted(Path("/proc/self/fd").iterdir()) == before


@pytest.fixture(params=["link", "second name", "other user", "device", "pipe", "too long"])
def planted(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file that another user has put where a server expects one of its own."""
    (tmp_path / "victim").write_text('{"key":"k","fetched_at":0,"value":["secret"]}\n')
    planted = tmp_path / "planted"
    match request.param:
        case "link":
            planted.symlink_to("victim")
        case "second name":
            planted.hardlink_to(tmp_path / "victim")
        case "device":
            planted.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(planted)
        case "too long":
            planted.write_text("x" * 101)
        case _ if os.geteuid():
            pytest.skip("only root can give a file away")
        case _:
            planted.write_text("x")
            os.chown(planted, 61234, 61234)
    return planted


def test_a_file_that_another_user_has_planted_is_neither_read_nor_written(planted: Path) -> None:
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT):
        with pytest.raises(OSError, match="planted"):
            os.close(open_own(planted, flags, most=100))
    with pytest.raises(OSError, match="planted"):
        read_own(planted, 100)
    cache, victim = CacheFile(planted, list[str]), planted.with_name("victim")
    with pytest.raises(CacheFileError, match=r"cannot be read|damaged"):
        cache.load("k")
    planted.with_name(f".planted.{os.getpid()}").symlink_to(victim)
    before = victim.read_text()
    cache.save(["new"], "k", 0.0)
    assert (cache.load("k"), victim.read_text()) == ((["new"], 0.0), before)
