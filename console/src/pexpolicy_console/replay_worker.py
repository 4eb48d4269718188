"""The process of a replay: writes its progress and its result as lines of JSON."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from pexpolicy.audit.reader import file_and_rotated
from pexpolicy.config.settings import ConfigError
from pexpolicy.errors import describe_error
from pexpolicy.replay.replayer import Job
from pexpolicy.replay.report import as_json
from pexpolicy.replay.result import Tally
from pexpolicy.replay.run import run_replay
from pexpolicy_console.config_file import ConfigFile
from pexpolicy_console.replay import Message, Progress, Replayed

INTERVAL_S = 0.5
"""Between two lines of progress."""
MAX_GROUPS = 50


def files_since(audit: Path, since: float) -> list[Path]:
    """Return the audit files that may have lines of a period, the oldest first."""
    found = []
    for path in file_and_rotated(audit):
        with suppress(FileNotFoundError):  # the oldest is removed when another is rotated
            if path.stat().st_mtime >= since:
                found.append(path)
    return found


def replayed(config: Path, audit: Sequence[Path], since: float, output: IO[bytes]) -> Message:
    """Replay files in this process, and return the result; write the progress to a file."""
    written = time.monotonic()

    def progress(counts: Tally, share: float) -> None:
        nonlocal written
        if time.monotonic() - written >= INTERVAL_S:
            written = time.monotonic()
            records = sum(counts.records.values())
            _write(output, Message(Progress(records, share, counts.changed)))

    job = Job(config, since=since)
    try:
        # One process, as the server needs the other processors.
        done = run_replay(audit, job, with_rotated=False, processes=0, progress=progress)
        result = as_json(done)
    except ConfigError as error:
        return Message(problems=[str(problem) for problem in error.problems])
    except Exception as error:  # noqa: BLE001 - the operator must see it
        return Message(problems=[describe_error(error).summary])
    groups = result["groups"]
    result["groups"], result["left_out"] = groups[:MAX_GROUPS], max(len(groups) - MAX_GROUPS, 0)
    return Message(result=msgspec.convert(result, Replayed))


def _write(output: IO[bytes], message: Message) -> None:
    output.write(msgspec.json.encode(message) + b"\n")
    output.flush()


def main() -> None:
    """Replay the audit of a configuration on it, or on another file. What plugins print goes
    to standard error.
    """
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    config, since, file = Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
    audit = ConfigFile(config).audit
    if audit is None:
        message = Message(problems=["the audit goes to standard output: there is no file of calls"])
    else:
        message = replayed(file, files_since(audit, since), since, output)
    _write(output, message)


if __name__ == "__main__":
    main()
