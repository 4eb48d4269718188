"""The spool: what a writer leaves in it, and the next start writes."""

import fcntl
from pathlib import Path

import pytest

from pexpolicy.audit.spool import Spool, orphaned_lines
from tests.support.fake_plugins import open_audit

NAME = "a" * 16


def spool_with_lines(folder: Path) -> Spool:
    """A spool of two lines, the first of which was written elsewhere."""
    spool = Spool(folder, NAME, 1000)
    spool.append(b"one\n")
    spool.append(b"two\n")
    spool.remove(4)
    return spool


def test_what_is_left_is_for_its_owner_alone(tmp_path: Path) -> None:
    spool_with_lines(tmp_path).close()
    (left,) = tmp_path.iterdir()
    assert left.name == f"{NAME}.spool"
    assert left.stat().st_mode & 0o777 == 0o600
    assert list(orphaned_lines(tmp_path, print)) == [b"two\n"]


def test_what_another_one_has_taken_over_meanwhile_is_not_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool_with_lines(tmp_path).close()

    def lock_late(*_: object) -> None:
        (left,) = tmp_path.iterdir()
        left.unlink()

    monkeypatch.setattr(fcntl, "flock", lock_late)
    assert list(orphaned_lines(tmp_path, print)) == []


def test_no_line_goes_to_a_file_that_another_server_has_just_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def flock(file: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        assert list(orphaned_lines(tmp_path, print)) == []
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    spool = Spool(tmp_path, "a" * 16, 1 << 20)
    with pytest.raises(FileNotFoundError):
        spool.append(b"{}\n")
    spool.append(b"{}\n")
    spool.close()
    assert list(orphaned_lines(tmp_path, print)) == [b"{}\n"]


def test_a_folder_that_is_not_there_is_made_for_this_user_alone(tmp_path: Path) -> None:
    spool_with_lines(tmp_path / "spool").close()
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert list(orphaned_lines(tmp_path / "spool", pytest.fail)) == [b"two\n"]


def test_what_was_taken_over_of_a_large_spool_is_not_taken_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, NAME, 1 << 20)
    lines = [b"%06d%s\n" % (number, b"x" * 200) for number in range(2000)]
    lines[700] = b"y" * 200_000 + b"\n"
    for line in lines:
        spool.append(line)
    spool.close()
    taken = b""
    while len(taken) < len(b"".join(lines)):
        for number, block in enumerate(orphaned_lines(tmp_path, print)):
            if number == 2:
                break  # the disk is full; the block waits for the next start
            taken += block
    assert taken == b"".join(lines)
    assert list(orphaned_lines(tmp_path, print)) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("planted", ["link", "second name", "device"])
def test_a_file_that_no_server_has_made_is_not_read_into_the_audit(
    tmp_path: Path, planted: str
) -> None:
    victim, spool, alerts = tmp_path / "victim", tmp_path / "spool", list[str]()
    spool.mkdir()
    victim.write_text("root:secret\n")
    path = spool / f"{NAME}.spool"
    if planted == "second name":
        path.hardlink_to(victim)
    else:
        path.symlink_to("/dev/zero" if planted == "device" else victim)
    audit = open_audit(tmp_path / "audit.jsonl", spool=str(spool))
    assert list(orphaned_lines(spool, alerts.append)) == []
    audit.close()
    assert "secret" not in (tmp_path / "audit.jsonl").read_text()
    assert (victim.read_text(), str(path) in str(alerts)) == ("root:secret\n", True)


def test_what_has_no_line_end_within_a_megabyte_is_kept_aside(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.spool").write_bytes(b"first\n" + bytes(3 << 20) + b"\nlast\n")
    alerts: list[str] = []
    assert list(orphaned_lines(tmp_path, alerts.append)) == [b"first\n"]
    (torn,) = tmp_path.iterdir()
    assert (torn.suffix, torn.stat().st_size > 3 << 20, len(alerts)) == (".torn", True, 1)


def test_a_torn_line_is_kept_aside_and_reported(tmp_path: Path) -> None:
    spool_with_lines(tmp_path).close()
    (left,) = tmp_path.iterdir()
    with left.open("ab") as file:
        file.write(b'{"event":"dec')
    alerts: list[str] = []
    assert list(orphaned_lines(tmp_path, alerts.append)) == [b"two\n"]
    (torn,) = tmp_path.iterdir()
    assert torn.name == f"{NAME}.spool.torn"
    assert torn.read_bytes().lstrip(b" \n") == b'{"event":"dec'
    assert torn.stat().st_mode & 0o777 == 0o600
    (alert,) = alerts
    assert str(torn) in alert
    assert list(orphaned_lines(tmp_path, alerts.append)) == []
