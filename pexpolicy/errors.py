"""What can be said of an exception in a plugin without telling secrets."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from pexpolicy.models.errors import DecisionError
from pexpolicy.text import brief

MAX_MESSAGE = 200
MAX_REFUSAL = 1000
"""For a refused decision: its text is ours, holds no secret, and says at its end what follows."""
PACKAGE_ROOT = os.path.dirname(__file__) + os.sep  # noqa: PTH120 - compared with names, no file is touched
"""How the names of our own files begin: this module lies at the top of the package."""


class Log(Protocol):
    """Where the faults of plugins are written, beside the audit line."""

    def warning(self, event: str, **fields: object) -> object:
        """Write one warning."""


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An exception in one line, and its traceback: files, lines and functions, never local
    variables.
    """

    summary: str
    lines: list[str]
    place: str = ""
    """The file and line of the plugin where it was raised, such as ``doors.py:12``."""


def _is_ours(filename: str) -> bool:
    return filename.startswith((PACKAGE_ROOT, "<frozen importlib"))


def describe_error(error: BaseException, secrets: Iterable[str] = ()) -> ErrorReport:
    """Say what was raised and where. Local variables stay out: they hold PINs.

    The ``secrets`` of the call are taken out of the message. An exception that carries the fault of
    another process says that one.
    """
    if (carried := _attached_report(error)) is not None:
        return carried
    lines, place = _way(error)
    try:
        message = str(error)
        for secret in secrets:
            message = message.replace(secret, "***")
        message = _cut(message, MAX_REFUSAL if type(error) is DecisionError else MAX_MESSAGE)
    except BaseException:  # noqa: BLE001 - a broken __str__ must not hide the fault
        message = ""
    said = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return ErrorReport(f"{said} ({place})" if place else said, lines, place)


def describe_decision_error(error: DecisionError, secrets: Iterable[str] = ()) -> ErrorReport:
    """A decision that Infinity would drop: field, rule and place, and no value of the decision."""
    carried = _attached_report(error)
    lines, place = (carried.lines, carried.place) if carried else _way(error)
    try:
        refusal = error.refusal
        # Behind the semicolon stands what to write instead, which may repeat the value.
        rule = refusal.rule.partition(";")[0]
        if isinstance(refusal.value, str):
            rule = rule.replace(brief(refusal.value), "the value")
        said = f"{refusal.model}.{refusal.field}: {rule}" if refusal.field else rule
        for secret in secrets:
            said = said.replace(secret, "***")
    except Exception:  # noqa: BLE001 - a plugin may have made the exception itself
        said = type(error).__name__
    said = said[:MAX_MESSAGE]
    return ErrorReport(f"{said} ({place})" if place else said, lines, place)


def _way(error: BaseException) -> tuple[list[str], str]:
    """The lines of the plugin that an exception came through, and the last of them in short."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_ours(f.filename)]
    lines = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
    if not frames:
        return lines, ""
    last = frames[-1]
    return lines, f"{os.path.basename(last.filename)}:{last.lineno}"  # noqa: PTH119 - no file is touched


def _cut(message: str, limit: int) -> str:
    """A message that is too long ends behind a whole word."""
    if len(message) <= limit:
        return message
    head, blank, _ = message[:limit].rpartition(" ")
    return f"{head if blank else message[:limit]}…"


def _attached_report(error: BaseException) -> ErrorReport | None:
    try:
        carried = getattr(error, "fault", None)
    except BaseException:  # noqa: BLE001 - its attributes may be as broken as its text
        return None
    return carried if isinstance(carried, ErrorReport) else None


SHUT = (
    "it closed the connection: there is no TLS, it wants a client certificate, "
    "or this address is not in its [access] networks"
)
"""What it means when a peer closes before TLS is spoken."""
_MEANINGS: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "the name is not known"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted"),
    (ssl.SSLEOFError, SHUT),
    (ssl.SSLError, "it does not speak TLS, or not with this client"),
    (TimeoutError, "no answer in time"),
    (ConnectionRefusedError, "nobody listens there"),
    (ConnectionError, "it closed the connection"),
)
"""By the first class that an error belongs to."""
_LISTENING = {
    errno.EADDRNOTAVAIL: "it is no address of this machine",
    errno.EACCES: "this user may not; ports below 1024 need CAP_NET_BIND_SERVICE",
}


def describe_network_error(error: BaseException) -> str:
    """What an error of the network means for whoever chose the address."""
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return "the name cannot be looked up at the moment"
    for kind, meaning in _MEANINGS:
        if isinstance(error, kind):
            detail = getattr(error, "verify_message", "")
            return f"{meaning}: {detail}" if detail else meaning
    if isinstance(error, OSError) and error.errno in _LISTENING:
        return _LISTENING[error.errno]
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(str(error).split()) or type(error).__name__
