"""Environment and resource limits of worker processes, and measuring what they use.

Memory and processor time are those of the worker and of the processes that it has started. The
server measures them; the kernel holds the limits on files.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pexpolicy.config.schema.plugins import PluginTable

MIB = 1024 * 1024
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
CPU_WINDOW_S = 10.0
"""Time over which ``cpu_percent`` is averaged."""
MAX_CAUSES = 8
PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TZDIR", "TMPDIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"),
)
"""Variables that each worker gets."""
PASSED_PREFIXES = ("LC_", "PYTHON")


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """What the workers of a plugin may use; bytes, and percent of one core. ``None``: no limit."""

    environment: Mapping[str, str]
    memory: int
    cpu_percent: int | None = None
    file_bytes: int | None = None
    open_files: int | None = None

    @classmethod
    def of(cls, table: PluginTable) -> ProcessLimits:
        """Return the limits of a table, and the variables that it passes on.

        A variable that the settings name in a key such as ``token_env`` is passed on too.
        """
        allowed = {*table.env, *_named(table.settings)}
        environment = {
            name: value
            for name, value in os.environ.items()
            if "*" in allowed
            or name in allowed
            or name in PASSED
            or name.startswith(PASSED_PREFIXES)
        }
        file_bytes = None if table.file_mb is None else table.file_mb * MIB
        memory = table.memory_mb * MIB
        return cls(environment, memory, table.cpu_percent, file_bytes, table.open_files)

    def exit_hint(self, number: int) -> str:
        """Return the limit for which the kernel ends a worker with a signal, if any."""
        if number == signal.SIGXFSZ and self.file_bytes is not None:
            return f": it wrote a file larger than its file_mb, {self.file_bytes // MIB}"
        return ""


def _named(settings: object) -> Iterator[str]:
    """Yield the names of variables in the settings of a plugin."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            if isinstance(value, str) and str(key).endswith("_env"):
                yield value
            yield from _named(value)
    elif isinstance(settings, list):
        for item in settings:
            yield from _named(item)


def apply(file_bytes: int | None, open_files: int | None) -> None:
    """Set the limits of this process that the kernel holds; they cannot be raised again."""
    if file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        # Python ignores it, and the write would fail with a text that names no limit.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if open_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))


def failure_hint(error: BaseException | None) -> str:
    """Return the limit that is the reason of an exception in this process, if any."""
    for _ in range(MAX_CAUSES):
        if error is None:
            break
        if isinstance(error, OSError) and error.errno == errno.EMFILE:
            return f"; its open_files is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}"
        if isinstance(error, KeyError) and _reads_environment(error.__traceback__):
            return "; workers get the variables of the key env only"
        error = error.__cause__ or error.__context__
    return ""


def _reads_environment(trace: TracebackType | None) -> bool:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_qualname == "_Environ.__getitem__"


class UsageMeter:
    """Measures one worker; ``pid`` is its process ID. Without /proc, everything is 0."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._samples: deque[tuple[float, float]] = deque()

    def excess(self, limits: ProcessLimits, now: float, *, is_open: bool) -> str:
        """Return which limit the worker exceeds, and by how much; empty if it does not.

        The processor time of its start does not count: ``is_open`` is false until then.
        """
        children = list(_descendants(self._pid))
        if children and (used := self._memory_with(children, limits.memory)) > limits.memory:
            return (
                f"used {used // MIB} MiB of memory with its child processes ({len(children)}), "
                f"and its memory_mb is {limits.memory // MIB}"
            )
        if limits.cpu_percent is not None and is_open:
            return self._cpu_excess(children, limits.cpu_percent, now)
        return ""

    def _memory_with(self, children: list[int], limit: int) -> int:
        processes = [self._pid, *children]
        resident = sum(map(_resident, processes))
        # Forked processes share pages, which only the slower measurement counts once.
        return resident if resident <= limit else sum(map(_proportional, processes))

    def _cpu_excess(self, children: list[int], percent: int, now: float) -> str:
        used = _processor_time(self._pid) + sum(map(_processor_time, children))
        samples = self._samples
        samples.append((now, used))
        while len(samples) > 1 and samples[1][0] <= now - CPU_WINDOW_S:
            samples.popleft()
        began, before = samples[0]
        if now - began < CPU_WINDOW_S:
            return ""
        share = round(100 * (used - before) / (now - began))
        if share <= percent:
            return ""
        return (
            f"used {share} % of a core for {CPU_WINDOW_S:.3g} s, and its cpu_percent is {percent}"
        )


def _descendants(pid: int) -> Iterator[int]:
    pending = [pid]
    while pending:
        with suppress(OSError, ValueError):
            parent = pending.pop()
            for thread in os.listdir(f"/proc/{parent}/task"):  # noqa: PTH208 - called ten times a second
                children = _read(f"/proc/{parent}/task/{thread}/children").split()
                pending += map(int, children)
                yield from map(int, children)


def _resident(pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        return int(_read(f"/proc/{pid}/statm").split()[1]) * PAGE
    return 0


def _proportional(pid: int) -> int:
    """Return the memory of a process, with its share of pages that it shares."""
    with suppress(OSError, ValueError, IndexError):
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _processor_time(pid: int) -> float:
    """Return the processor time of a process and of its children that have ended, in seconds."""
    with suppress(OSError, ValueError, IndexError):
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / TICKS
    return 0.0


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")
