"""The verification of the audit's chain in the background, and what it says where it cannot run."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from pexpolicy_console.chain_verification import MAX_LINE, ChainVerification, Verified
from pexpolicy_console.config_file import ConfigFile


@pytest.fixture
def config(tmp_path: Path) -> ConfigFile:
    path = tmp_path / "config.toml"
    path.write_text('[audit]\npath = "audit.jsonl"\n')
    return ConfigFile(path)


def as_program(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a shell script be what verifies."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))


async def ended(verification: ChainVerification) -> Verified:
    """Return the result of a verification."""
    verification.start()
    while verification.started is not None:  # noqa: ASYNC110 - a page asks for it the same way
        await asyncio.sleep(0.01)
    assert verification.last is not None
    return verification.last


async def test_a_process_that_cannot_start_is_reported_and_another_one_may(
    config: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_memory(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    verification = ChainVerification(config)
    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "create_subprocess_exec", no_memory)
        last = await ended(verification)
    assert last.problem == "the verification could not be started: Cannot allocate memory"
    as_program(config.path.parent, 'echo "no file" >&2; exit 3', monkeypatch)
    assert (await ended(verification)).problem == "no file"
    await verification.close()


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo Killed", "the result cannot be read"),
        (f"head -c {2 * MAX_LINE + 10} /dev/zero", "a line of the result is too long to show"),
        ("exit 3", "the verification ended with code 3"),
        ("kill -9 $$", "the verification ended with code -9"),
    ],
)
async def test_what_is_not_a_result_is_reported(
    config: ConfigFile, monkeypatch: pytest.MonkeyPatch, script: str, problem: str
) -> None:
    as_program(config.path.parent, script, monkeypatch)
    verification = ChainVerification(config)
    assert (await ended(verification)).problem.partition(":")[0] == problem
    await verification.close()


async def test_a_process_that_runs_ends_with_the_console(
    config: ConfigFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_program(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 600", monkeypatch)
    verification = ChainVerification(config)
    verification.start()
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():  # noqa: ASYNC110 - of another process
        await asyncio.sleep(0.01)
    await verification.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
