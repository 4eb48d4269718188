"""Mistakes on the command line, and files, devices and streams that a command cannot use."""

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pexpolicy import __version__
from pexpolicy.cli.main import main


@pytest.mark.parametrize(("value", "coloured"), [("", True), ("1", False)])
def test_no_color_is_honoured(tmp_path: Path, value: str, *, coloured: bool) -> None:
    (tmp_path / "config.toml").write_text("[server]\nprot = 1\n")
    arguments = ["check", str(tmp_path / "config.toml")]
    said = CliRunner().invoke(main, arguments, color=True, env={"NO_COLOR": value})
    assert said.exit_code == 78
    assert ("\x1b" in said.stderr) is coloured


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_output_for_which_the_disk_has_no_space_is_no_traceback() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "pexpolicy", "config", "schema"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode
    assert "the output cannot be read or written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


USAGE: list[tuple[list[str], int, str]] = [
    *((["status", "--url", url], 2, "") for url in ("http://::1:9107", "::1", "localhost:9107")),
    (["check", "-c", "config.toml", "b.toml"], 2, "b.toml are two configurations: check one after"),
    (["init", "new.toml", "--yes"], 2, "is not the name of a folder"),
    (["explain", "Meet One"], 2, "Meet One is not "),
    (["reload", "-c", "confg.toml"], 1, "there is no such file"),
    (["chekc"], 2, "No such command 'chekc'; did you mean 'check'?"),
    (["restart"], 2, "systemctl restart pexpolicy"),
    (["is-active"], 2, "systemctl is-active pexpolicy"),
    (["start"], 2, "systemctl start pexpolicy"),
    (["check", "--no-strict"], 2, "No such option '--no-strict'; there are --config, "),
    (["-c", "config.toml", "check"], 2, "--help; options follow their command\n"),
    (["audit", "--file", "a", "grep"], 2, "there are --help; options follow their command\n"),
    (["console", "--user", "a"], 2, "--login, --with-parent, --help\n"),
    (
        ["audit", "find"],
        2,
        "No such command 'find'; there are grep, purge, ship, show, tail, verify\n",
    ),
    (["audit", "tail", "50"], 2, "it takes --config, --file, --from-database, "),
    (["explain", "Meeting", "Room"], 2, "it takes REQUEST, --config, "),
    (["version"], 2, "No such command 'version'; did you mean '--version'?"),
    (["init", "--yes", "--test-certificate", "a/b"], 2, "write policy.example.com\n"),
    (["explain"], 2, "Missing argument 'REQUEST': write it as in pexpolicy explain meet@"),
]
"""Arguments, the exit code, and what is printed."""


@pytest.mark.parametrize(("arguments", "code", "said"), USAGE)
def test_a_wrong_argument_is_answered_with_a_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("config.toml", "b.toml"):
        (tmp_path / name).touch()
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == code
    assert said in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.toml", "config.toml"]


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 2>&-"])
def test_a_closed_standard_error_ends_no_command(tmp_path: Path, closed: str) -> None:
    (tmp_path / "config.toml").write_text("[server]\nport = 0\n[access]\nnetworks = []\n")
    command = ["sh", "-c", f"exec {sys.executable} -m pexpolicy check {closed}"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0
    assert "valid, 1 warning" in done.stdout


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_has_a_short_option(option: str) -> None:
    assert CliRunner().invoke(main, [option]).stdout.endswith(f" {__version__}\n")


@pytest.mark.parametrize("command", ["serve", "check", "plugins"])
@pytest.mark.parametrize("make", [Path.mkdir, Path.absolute])
def test_a_configuration_that_cannot_be_read_is_no_wrong_usage(
    tmp_path: Path, command: str, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "config.toml")
    said = CliRunner().invoke(main, [command, "--config", str(tmp_path / "config.toml")])
    assert said.exit_code == 78
    assert "cannot be read: " in said.stderr
    assert "Usage" not in said.stderr


def test_an_address_of_another_machine_is_reported_as_one(tmp_path: Path) -> None:
    text = "[server]\nhost = '192.0.2.7'\nallow_anonymous = true\n[audit]\npath = 'a'\n"
    (tmp_path / "config.toml").write_text(text)
    arguments = ["serve", "--config", str(tmp_path / "config.toml"), "--admin-port", "0"]
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 1
    assert "cannot listen on 192.0.2.7:8000: it is not an address of this machine" in said.stderr


@pytest.mark.parametrize("command", ["verify", "grep", "tail"])
def test_a_damaged_archive_of_the_audit_is_no_traceback(tmp_path: Path, command: str) -> None:
    (tmp_path / "audit.jsonl.gz").write_bytes(gzip.compress(b"x" * 9000)[:-20])
    (tmp_path / "text.gz").write_text("no archive")
    for name in ("audit.jsonl.gz", "text.gz"):
        arguments = ["audit", *command.split(), "--file", str(tmp_path / name)]
        said = CliRunner().invoke(main, arguments)
        assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
        assert "damaged" in said.output
        assert said.exit_code == (command in ("verify", "grep"))
