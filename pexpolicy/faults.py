"""What can be said of an exception in a plugin without telling secrets."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable
from dataclasses import dataclass

from pexpolicy.contract.refusal import DecisionError

MAX_MESSAGE = 200
MAX_REFUSAL = 1000
"""For a refused decision: its text is ours, holds no secret, and says at its end what follows."""
_OWN = os.path.dirname(__file__) + os.sep  # noqa: PTH120 - compared with names, no file is touched


@dataclass(frozen=True, slots=True)
class Fault:
    """An exception in one line, and its traceback: files, lines and functions, never local
    variables.
    """

    summary: str
    lines: list[str]


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OWN, "<frozen importlib"))


def blame(error: BaseException, secrets: Iterable[str] = ()) -> Fault:
    """Say what was raised and where. Local variables stay out: they hold PINs.

    The ``secrets`` of the call are taken out of the message. An exception that carries the fault of
    another process says that one.
    """
    if (carried := _carried(error)) is not None:
        return carried
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_ours(f.filename)]
    lines = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
    try:
        message = str(error)
        for secret in secrets:
            message = message.replace(secret, "***")
        message = _cut(message, MAX_REFUSAL if type(error) is DecisionError else MAX_MESSAGE)
    except BaseException:  # noqa: BLE001 - a broken __str__ must not hide the fault
        message = ""
    said = f"{type(error).__name__}: {message}" if message else type(error).__name__
    if frames:
        last = frames[-1]
        said += f" ({os.path.basename(last.filename)}:{last.lineno})"  # noqa: PTH119 - no file is touched
    return Fault(said, lines)


def _cut(message: str, limit: int) -> str:
    """A message that is too long ends behind a whole word."""
    if len(message) <= limit:
        return message
    head, blank, _ = message[:limit].rpartition(" ")
    return f"{head if blank else message[:limit]}…"


def _carried(error: BaseException) -> Fault | None:
    try:
        carried = getattr(error, "fault", None)
    except BaseException:  # noqa: BLE001 - its attributes may be as broken as its text
        return None
    return carried if isinstance(carried, Fault) else None
