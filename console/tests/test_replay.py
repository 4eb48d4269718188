"""The replay of the last day: the files it reads, and what it says where it cannot run."""

import asyncio
import errno
import io
import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from pexpolicy.replay import replayer
from pexpolicy_console import replay_worker
from pexpolicy_console.config_file import ConfigFile
from pexpolicy_console.replay import CANCELLED, Message, Progress, Replay
from tests.replay import audits

CONFIG = """
[audit]
path = "audit.jsonl"
"""
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SINCE = NOON.timestamp()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return path


def with_audit(config: Path) -> list[Path]:
    """Write an audit file and one rotated before the period; return both."""
    call = ("service_configuration", "a", [("local_alias", "a"), ("protocol", "sip")], NOON)
    written = audits.written(config, [call], config.with_name("audit.jsonl"))
    rotated = audits.written(config, [call], config.with_name("audit.jsonl.1"))
    os.utime(rotated, (SINCE - 1, SINCE - 1))
    return [rotated, written]


async def ended(config: Path) -> Replay:
    """Return a replay that was started and has ended."""
    replay = Replay(ConfigFile(config))
    replay.start()
    while replay.is_running:  # noqa: ASYNC110 - a page asks for it the same way
        await asyncio.sleep(0.01)
    return replay


def test_a_file_that_ends_before_the_period_is_not_read(config: Path) -> None:
    rotated, written = with_audit(config)
    files = replay_worker.files_since(written, SINCE)
    assert files == [written]
    message = replay_worker.replayed(config, files, SINCE, io.BytesIO())
    assert message.result is not None, message.problems
    assert sum(message.result.records.values()) == 1
    assert rotated.exists()


def test_the_worker_tells_how_far_it_is(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, written = with_audit(config)
    written.write_bytes(3 * written.read_bytes())
    monkeypatch.setattr(replayer, "PART_S", -1.0)
    monkeypatch.setattr(replay_worker, "INTERVAL_S", -1.0)
    output = io.BytesIO()
    replay_worker.replayed(config, [written], SINCE, output)
    messages = [msgspec.json.decode(line, type=Message) for line in output.getvalue().splitlines()]
    told = [message.progress for message in messages if message.progress is not None]
    assert [(one.records, one.changed) for one in told] == [(1, 0), (2, 0), (3, 0), (3, 0)]
    assert [round(3 * one.share, 3) for one in told] == [1, 2, 3, 3]


async def test_a_replay_shows_its_progress_and_is_cancelled(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    progress = '{"progress":{"records":30,"share":0.5,"changed":2}}'
    program.write_text(f"#!/bin/sh\necho '{progress}'\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    replay = Replay(ConfigFile(config))
    replay.start()
    while not replay.progress.records:  # noqa: ASYNC110 - a page asks for it the same way
        await asyncio.sleep(0.01)
    assert replay.progress == Progress(30, 0.5, 2)
    await replay.cancel()
    assert not replay.is_running
    assert replay.problems == [CANCELLED]
    replay.problems = []
    await replay.cancel()
    assert replay.problems == []


def test_a_file_that_vanished_after_it_was_listed_is_left_out(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, written = with_audit(config)
    gone = written.with_name("audit.jsonl.2")
    monkeypatch.setattr(replay_worker, "file_and_rotated", lambda _: [gone, written])
    assert replay_worker.files_since(written, SINCE) == [written]


async def test_a_process_that_cannot_start_is_reported(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_memory(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(asyncio, "create_subprocess_exec", no_memory)
    replay = await ended(config)
    assert replay.problems == ["the replay could not be started: Cannot allocate memory"]
    await replay.close()


async def test_what_is_not_a_result_is_reported(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho Killed\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    replay = await ended(config)
    assert [text.partition(":")[0] for text in replay.problems] == ["the result cannot be read"]
    await replay.close()
