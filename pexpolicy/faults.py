"""What can be said of an exception in a plugin without telling secrets."""

from __future__ import annotations

import os
import traceback
from dataclasses import dataclass

MAX_MESSAGE = 200


@dataclass(frozen=True, slots=True)
class Fault:
    """An exception in one line, and its traceback: files, lines and functions, never local
    variables.
    """

    summary: str
    lines: list[str]


def blame(error: BaseException) -> Fault:
    """Say what was raised and where. Local variables stay out: they hold PINs.

    An exception that carries the fault of another process says that one.
    """
    if (carried := _carried(error)) is not None:
        return carried
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
    try:
        message = str(error)[:MAX_MESSAGE]
    except BaseException:  # noqa: BLE001 - a broken __str__ must not hide the fault
        message = ""
    said = f"{type(error).__name__}: {message}" if message else type(error).__name__
    if frames:
        last = frames[-1]
        said += f" ({os.path.basename(last.filename)}:{last.lineno})"  # noqa: PTH119 - no file is touched
    return Fault(said, lines)


def _carried(error: BaseException) -> Fault | None:
    try:
        carried = getattr(error, "fault", None)
    except BaseException:  # noqa: BLE001 - its attributes may be as broken as its text
        return None
    return carried if isinstance(carried, Fault) else None
