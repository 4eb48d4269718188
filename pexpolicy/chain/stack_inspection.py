"""Stack inspection: the plugin whose code a thread is running, and the line."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from types import FrameType

from pexpolicy.errors import PACKAGE_ROOT

Names = tuple[str, str]
"""Plugin and hook."""
SERVER = ("the server", "")
_CALLERS = os.path.join(PACKAGE_ROOT, "chain") + os.sep  # noqa: PTH118 - compared with names
"""The beginning of the file names of the code that calls hooks."""


class StackInspector:
    """Finds the owner of the code that a thread is running. ``modules`` maps the modules of plugin
    classes to plugin names.
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        packages = Counter(module.partition(".")[0] for module in modules)
        self._owners = {
            module.partition(".")[0]: name
            for module, name in modules.items()
            if packages[module.partition(".")[0]] == 1
        } | dict(modules)

    def owner(self, thread: int, running: Names) -> tuple[Names, str]:
        """Return the owner of the code that the thread with this identifier runs, and the line.

        ``running`` are plugin and hook of the current task. The server is the owner where the hook
        has returned or waits and code of the server runs, such as a check of its answer.
        """
        frames = list(_frames(thread))
        if running != SERVER and _is_in_hook(frames):
            return running, _line(frames)
        for frame in frames:
            if frame.f_code.co_filename.startswith(PACKAGE_ROOT):
                continue
            if (name := self._plugin_of(str(frame.f_globals.get("__name__", "")))) is not None:
                return (running if running[0] == name else (name, "")), _line(frames)
        return SERVER, _place(frames[0]) if frames else "unknown"

    def _plugin_of(self, module: str) -> str | None:
        while module:
            if (name := self._owners.get(module)) is not None:
                return name
            module = module.rpartition(".")[0]
        return None


def current_line(thread: int) -> str:
    """Return the innermost line of a thread that belongs neither to the server nor to asyncio."""
    return _line(list(_frames(thread)))


def is_at_prompt(thread: int) -> bool:
    """Return whether a thread waits at the prompt of a debugger."""
    return any(_is_debugger(frame) for frame in _frames(thread))


def has_debugger() -> bool:
    """Return whether an editor's debugger is attached, or any thread waits at a prompt."""
    if "pydevd" in sys.modules:
        return True
    return "bdb" in sys.modules and any(map(is_at_prompt, sys._current_frames()))  # noqa: SLF001 - documented


def _is_debugger(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name == "bdb" or name.startswith(("pydevd", "_pydevd"))


def _frames(thread: int) -> Iterator[FrameType]:
    """Yield the frames of a thread, innermost first."""
    frame: FrameType | None = sys._current_frames().get(thread)  # noqa: SLF001 - documented
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_in_hook(frames: list[FrameType]) -> bool:
    """Return whether the chain has called code that is not the server's."""
    inner: FrameType | None = None
    for frame in frames:
        if frame.f_code.co_filename.startswith(_CALLERS):
            return inner is not None and not inner.f_code.co_filename.startswith(PACKAGE_ROOT)
        inner = frame
    return False


def _line(frames: list[FrameType]) -> str:
    for frame in frames:
        name = frame.f_code.co_filename
        if not name.startswith(PACKAGE_ROOT) and "asyncio" not in name:
            return _place(frame)
    return "unknown"


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
