"""Replays of the last day and verifications of the audit, in the background."""

import asyncio
import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.replay import run
from pexpolicy_console import worker
from pexpolicy_console.children import Job
from tests.replay import audits
from tests.support import virtual_time
from tests.support.waiting import HANG_S

CONFIG = """
[audit]
path = "audit.jsonl"
"""
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SINCE = NOON.timestamp()
PROGRESS = b'{"progress":{"records":30,"share":0.5,"changed":2}}'
FRAMED = len(PROGRESS).to_bytes(4, "big") + PROGRESS
TELLS = "".join(f"\\{byte:03o}" for byte in FRAMED)
"""The progress of a replay as a frame, for ``printf`` of a shell."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def files(config: Path) -> tuple[Path, Path]:
    """Return a file rotated before the period, and the audit file."""
    call = ("service_configuration", "a", [("local_alias", "a"), ("protocol", "sip")], NOON)
    written = audits.written(config, [call], config.with_name("audit.jsonl"))
    rotated = audits.written(config, [call], config.with_name("audit.jsonl.1"))
    os.utime(rotated, (SINCE - 1, SINCE - 1))
    return rotated, written


def as_program(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a shell script be the process."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))


async def until(is_true: Callable[[], Any]) -> None:
    """Wait for what another process does."""
    while not is_true():  # noqa: ASYNC110 - a page asks for it the same way
        await asyncio.sleep(0.01)


async def ended(job: Job, **arguments: Any) -> Job:
    """Start a job, and return it when it has ended."""
    job.start(**arguments)
    await until(lambda: not job.is_running)
    return job


@pytest.mark.usefixtures("files")
async def test_jobs_answer_from_the_audit_on_the_disk(config: Path) -> None:
    replay = await ended(Job("replay", config), since=SINCE, file="config.toml")
    assert (replay.problems, replay.last and replay.last["records"]["exact"]) == ([], 1)
    missing = await ended(replay, since=SINCE, file="next.toml")
    assert missing.last is None
    assert "cannot be read" in missing.problems[0]
    verification = await ended(Job("verification", config))
    assert verification.last is not None, verification.problems
    assert verification.last["lines"] == 2


def test_a_replay_tells_how_far_it_is(
    config: Path, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rotated, written = files
    rotated.unlink()
    written.write_bytes(3 * written.read_bytes())
    monkeypatch.setattr(run, "PROGRESS_S", -1.0)
    sent: list[dict[str, Any]] = []
    worker.replay(config, sent.append, SINCE, "config.toml")
    told = [one["progress"] for one in sent]
    assert [(one["records"], one["changed"]) for one in told] == [(1, 0), (2, 0), (3, 0), (3, 0)]
    assert [round(3 * one["share"], 3) for one in told] == [1, 2, 3, 3]


async def test_a_job_shows_its_progress_and_is_cancelled(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"echo $$ >{tmp_path}/pid; printf '{TELLS}' >&0; exec sleep 600"
    as_program(tmp_path, script, monkeypatch)
    job = Job("replay", config)
    job.start()
    await until(lambda: job.progress["records"])
    assert job.progress == {"records": 30, "share": 0.5, "changed": 2}
    await job.cancel()
    assert (job.is_running, job.last) == (False, None)
    assert "cancelled" in job.problems[0]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_job_that_takes_too_long_is_ended(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_program(config.parent, f"touch {config.parent}/runs; exec sleep 600", monkeypatch)
    job = Job("replay", config, HANG_S)
    job.start()
    await until((config.parent / "runs").exists)
    virtual_time.skip(HANG_S + 1)
    await until(lambda: not job.is_running)
    assert f"no answer within {HANG_S:.3g} s" in job.problems[0]


async def test_a_process_that_cannot_start_is_reported_and_another_one_may(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    job = Job("verification", config)
    with monkeypatch.context() as patched:
        patched.setattr("subprocess.Popen", no_memory)
        await ended(job)
    assert job.problems == ["the verification could not be started: Cannot allocate memory"]
    assert "there is no file" in (await ended(job)).problems[0]


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("head -c 1 >&2; echo Killed >&0", "too long"),
        ("head -c 1 >&2; printf '\\000\\000\\000\\001x' >&0", "cannot be read"),
        ("exit 3", "ended with exit code 3"),
        ("kill -9 $$", "ended with SIGKILL"),
    ],
)
async def test_what_is_not_a_result_is_reported(
    config: Path, monkeypatch: pytest.MonkeyPatch, script: str, problem: str
) -> None:
    as_program(config.parent, script, monkeypatch)
    job = await ended(Job("verification", config))
    assert (job.last, problem in job.problems[0]) == (None, True), job.problems
