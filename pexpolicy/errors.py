"""Reports and the log of exceptions in plugins, without secrets; descriptions of network errors."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
import sys
import traceback
from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, Protocol

from pydantic_core import ValidationError

from pexpolicy.models.errors import DecisionError
from pexpolicy.models.outcome import BUSY, TIMED_OUT
from pexpolicy.models.request import redact
from pexpolicy.text import brief

MAX_MESSAGE = 200
MAX_REFUSAL = 1200
"""For a refused decision: its text is ours, holds no secret, and ends with the consequence."""
MAX_FRAMES = 20
"""Frames of one exception in a traceback; the innermost are kept."""
MAX_EXCEPTIONS = 8
"""Exceptions in a traceback, with causes and members of groups."""
PACKAGE_ROOT = os.path.dirname(__file__) + os.sep  # noqa: PTH120 - compared with names, no file is touched
"""The beginning of the names of our own files: this module lies at the top of the package."""
_CALLERS = {"aiohttp", "pydantic", "uvloop", *sys.stdlib_module_names}
"""Packages through which code of plugins is called."""

Secrets = Collection[str]
"""The secrets of a call."""
LOG_INTERVAL_S = 60.0
"""Between two lines about the same failure; the failures in between are counted."""
MAX_KINDS = 256
"""Kinds of failures that are counted apart."""


class RateLimit:
    """Admits one of each kind per ``interval`` seconds of the caller's clock; counts the others."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._admitted: dict[Any, tuple[float, int]] = {}

    def admit(self, kind: Hashable, now: float) -> int:
        """Return how many of this kind there were since the last admitted one; 0: left out."""
        admitted_at, left_out = self._admitted.get(kind, (None, 0))
        if admitted_at is not None and now - admitted_at < self._interval:
            self._admitted[kind] = admitted_at, left_out + 1
            return 0
        if len(self._admitted) >= MAX_KINDS:
            self._admitted.clear()
        self._admitted[kind] = now, 0
        return left_out + 1


class Log(Protocol):
    """The log of plugin and server failures, in addition to the audit line."""

    def warning(self, event: str, **fields: object) -> object:
        """Write one warning."""


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An exception in one line, and its traceback with source lines, causes and members of a group.

    It never holds local variables.
    """

    summary: str
    lines: list[str]
    place: str = ""
    """The file and line of the plugin where it was raised, such as ``rooms.py:12``."""
    kind: str = ""
    """The class of the exception."""

    @property
    def traceback(self) -> str:
        """The traceback as one text."""
        return "\n".join(self.lines)


def describe_error(error: BaseException, secrets: Secrets = ()) -> ErrorReport:
    """Report what was raised and where. Local variables stay out: they hold PINs.

    The ``secrets`` of the call are removed from messages. Where an exception carries the report of
    another process, that report is returned.
    """
    if (attached := _attached_report(error, secrets)) is not None:
        return replace(attached, summary=_truncate(redact(attached.summary, secrets), MAX_REFUSAL))
    text = _headline(error, secrets)
    is_told = isinstance(error, ConnectionError) or getattr(error, "explains_itself", False)
    if is_told and error.__cause__ is None:
        # Another server is down, or sends what is wrong: the place explains nothing.
        return ErrorReport(text, [], _place(error), type(error).__name__)
    return _report(error, text, secrets)


def full_traceback(error: BaseException, secrets: Secrets = ()) -> list[str]:
    """Return the lines of Python's own traceback, without the secrets of the call."""
    try:
        lines = "".join(traceback.format_exception(error)).splitlines()
    except BaseException:  # noqa: BLE001 - a plugin may have broken its exception
        return []
    if (attached := _attached_report(error, secrets)) is not None:
        lines += ["in the worker process:", *attached.lines]
    return [redact(line, secrets) for line in lines]


def describe_decision_error(error: DecisionError, secrets: Secrets = ()) -> ErrorReport:
    """Report a decision that Infinity would drop: field, rule and place, no value of the decision.

    Source lines are left out, as they may hold such values.
    """
    try:
        issue = error.refusal
        # After the semicolon follows what to write instead, which may repeat the value.
        rule = issue.rule.partition(";")[0]
        if isinstance(issue.value, str):
            rule = rule.replace(brief(issue.value), "the value")
        text = redact(f"{issue.model}.{issue.field}: {rule}" if issue.field else rule, secrets)
    except Exception:  # noqa: BLE001 - a plugin may have made the exception itself
        text = type(error).__name__
    text = text[:MAX_MESSAGE]
    if (attached := _attached_report(error, secrets)) is None:
        return _report(error, text, secrets, sources=False)
    return replace(attached, summary=_with(text, attached.place), kind="DecisionError")


def _attached_report(error: BaseException, secrets: Secrets) -> ErrorReport | None:
    report = vars(error).get("fault")
    if not isinstance(report, ErrorReport):
        return None
    return replace(report, lines=[redact(line, secrets) for line in report.lines])


def _report(
    error: BaseException, text: str, secrets: Secrets, *, sources: bool = True
) -> ErrorReport:
    place = _place(error)
    try:
        lines = list(_trace(error, secrets, [error], sources=sources))
    except BaseException:  # noqa: BLE001 - a plugin may have broken its exception
        lines = []
    return ErrorReport(_with(text, place), lines, place, type(error).__name__)


def _with(text: str, place: str) -> str:
    return f"{text} ({place})" if place else text


def _headline(error: BaseException, secrets: Secrets) -> str:
    """Return the class and message of an exception, shortened and without secrets."""
    name = type(error).__name__
    limit = MAX_REFUSAL if type(error) is DecisionError else MAX_MESSAGE
    try:
        message = redact(_message(error), secrets)
        if isinstance(error, BaseExceptionGroup):
            members = (_related(one, secrets) for one in error.exceptions[:MAX_EXCEPTIONS])
            message += f": {'; '.join(members)}"
    except BaseException:  # noqa: BLE001 - a broken __str__ must not hide the failure
        return name
    return f"{name}: {_truncate(message, limit)}" if message else name


def _message(error: BaseException) -> str:
    """Return the text of an exception as one line; that of pydantic without the values."""
    if isinstance(error, ValidationError):
        issues = error.errors(include_url=False, include_context=False, include_input=False)
        places = [".".join(map(str, (error.title, *issue["loc"]))) for issue in issues]
        return "; ".join(f"{at}: {one['msg']}" for at, one in zip(places, issues, strict=True))
    return " ".join(str(error).split())


def _truncate(message: str, limit: int) -> str:
    """Return a message that ends after a whole word if it is too long."""
    if len(message) <= limit:
        return message
    return f"{message[:limit].rpartition(' ')[0] or message[:limit]}…"


def _related(error: BaseException, secrets: Secrets) -> str:
    """Return the headline of a member or cause, without values of a decision."""
    if isinstance(error, DecisionError):
        return describe_decision_error(error, secrets).summary
    return _headline(error, secrets)


def _trace(
    error: BaseException, secrets: Secrets, seen: list[BaseException], *, sources: bool
) -> Iterator[str]:
    """Yield the frames of plugins and libraries, then the members of a group, then the cause."""
    stack = traceback.extract_tb(error.__traceback__)
    ours = PACKAGE_ROOT, "<frozen importlib"
    for frame in [one for one in stack if not one.filename.startswith(ours)][-MAX_FRAMES:]:
        yield f"{frame.filename}:{frame.lineno} in {frame.name}"
        if sources and frame.line:
            yield f"    {redact(frame.line, secrets)}"
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    related = [("with", member) for member in members]
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    related += [("after", before)] if before is not None else []
    for relation, other in related:
        if len(seen) >= MAX_EXCEPTIONS:
            yield "further exceptions are left out"
            return
        if all(other is not one for one in seen):
            seen.append(other)
            yield f"{relation} {_related(other, secrets)}"
            has_sources = sources and not isinstance(other, DecisionError)
            inner = _trace(other, secrets, seen, sources=has_sources)
            yield from (f"  {line}" for line in inner)


def _place(error: BaseException) -> str:
    # StopIteration becomes a RuntimeError without a line of the plugin.
    for one in filter(None, (error, error.__cause__)):
        if place := place_of(traceback.walk_tb(one.__traceback__))[0]:
            return place
    return ""


def place_of(frames: Iterable[tuple[FrameType, int]]) -> tuple[str, str]:
    """Return the innermost file and line of the plugin's own code, such as ``rooms.py:12``, and its
    function. ``frames`` have their lines, the outermost first.

    The plugin is the first code that is neither ours nor of ``_CALLERS``; code in another package
    and another directory is a library that it calls.
    """
    found = [
        (package, *os.path.split(frame.f_code.co_filename), line, frame.f_code.co_name)
        for frame, line in frames
        for package in (str(frame.f_globals.get("__name__", "")).partition(".")[0],)
        if package not in _CALLERS and not frame.f_code.co_filename.startswith(PACKAGE_ROOT)
    ]
    own = [at for at in found if at[0] == found[0][0] or at[1] == found[0][1]]
    return (f"{own[-1][2]}:{own[-1][3]}", own[-1][4]) if own else ("", "")


CONNECTION_CLOSED = (
    "it closed the connection: there is no TLS, it wants a client certificate, "
    "or this address is not in its [access] networks"
)
"""The meaning of a connection that the peer closes before the TLS handshake."""
_MEANINGS: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "the name is not known"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted"),
    (ssl.SSLEOFError, CONNECTION_CLOSED),
    (ssl.SSLError, "it does not speak TLS, or not with this client"),
    (TimeoutError, "no answer in time"),
    (ConnectionRefusedError, "nothing listens there"),
    (ConnectionError, "it closed the connection"),
)
"""By the first class that an error is an instance of."""
_LISTENING = {
    errno.EADDRINUSE: "Address already in use; end the program there, or choose another port",
    errno.EADDRNOTAVAIL: "it is not an address of this machine; ip address lists them",
    errno.EACCES: "this user may not; ports below 1024 need CAP_NET_BIND_SERVICE",
}


def describe_network_error(error: BaseException) -> str:
    """Explain a network error to the operator who chose the address."""
    if meaning := next((text for kind, text in _MEANINGS if isinstance(error, kind)), ""):
        detail = getattr(error, "verify_message", "")
        return f"{meaning}: {detail}" if detail else meaning
    if isinstance(error, OSError) and error.errno:
        return _LISTENING.get(error.errno) or os.strerror(error.errno)
    return " ".join(str(error).split()) or type(error).__name__


MAX_TEXTS = 8
"""Texts of one exception at one place that are logged apart; they may hold what a caller sent."""
_VARYING = re.compile(r"[\w.:-]*\d[\w.:-]{3,}")
"""Numbers and addresses, by which texts are not told apart."""
_EVENTS = {TIMED_OUT: "plugin was late", BUSY: "plugin was busy"}


class PluginFailureLog:
    """Logs the failures of plugins in a hook; does nothing without a log.

    Each distinct failure is logged once an interval, with the ``times`` since its last line.
    """

    def __init__(self, log: Log | None, hook: str) -> None:
        self._log = log
        self._hook = hook
        self.is_full = bool(getattr(log, "is_debugging", False))
        """True where every failure is logged with its full traceback."""
        self._limit = RateLimit(0.0 if self.is_full else LOG_INTERVAL_S)
        self._texts: dict[tuple[str, ...], set[str]] = {}
        """The texts that are logged apart, for each kind of failure."""

    def failed(
        self, event: str, plugin: str, report: ErrorReport, now: float, **more: object
    ) -> None:
        """Log a failure, once an interval for each text and place."""
        if self._log is None:
            return
        if report.lines:
            more["traceback"] = report.traceback
        fields = self._set(more)
        kind = event, plugin, str(fields["hook"]), report.kind, report.place
        text = _VARYING.sub("#", report.summary.removesuffix(f" ({report.place})"))
        if len(self._texts) >= MAX_KINDS:
            self._texts.clear()
        texts = self._texts.setdefault(kind, set())
        if text not in texts and len(texts) >= MAX_TEXTS:
            text = f"{MAX_TEXTS} other texts"
        texts.add(text)
        if times := self._limit.admit((*kind, text), now):
            if times > 1:
                fields["times"] = times
            self._log.warning(event, plugin=plugin, error=report.summary, **fields)

    def step(self, plugin: str, outcome: str, detail: str, now: float, **more: object) -> None:
        """Log a plugin that was late or busy, once an interval: under load every call is."""
        if outcome in _EVENTS:
            self.failed(_EVENTS[outcome], plugin, ErrorReport(detail, []), now, **more)

    def breaker(self, plugin: str, what: str, **fields: object) -> None:
        """Log that the circuit breaker of a plugin opened or closed."""
        if self._log is not None:
            self._log.warning(f"circuit breaker {what}", plugin=plugin, **self._set(fields))

    def _set(self, fields: dict[str, object]) -> dict[str, object]:
        return {"hook": self._hook, **{key: one for key, one in fields.items() if one != ""}}
