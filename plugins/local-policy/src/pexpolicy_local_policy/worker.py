"""The process that runs scripts: jobs and their results as messages.

A job has ``source``, ``variables``, ``unknown``, ``seconds`` and ``now``. The process has limits of
the kernel on memory and files and an empty environment, and imports little of the server. An alarm
ends a script that is late, also inside of a regular expression; ``script_process`` kills the
process where that does not help.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Mapping
from functools import lru_cache
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from jinja2 import TemplateSyntaxError, UndefinedError
from jinja2.exceptions import SecurityError

from pexpolicy.isolation.child import parent_socket
from pexpolicy_local_policy.language import (
    Functions,
    PolicyNotAppliedError,
    ScriptEnvironment,
    UnknownValue,
    UnknownValueError,
)

MEMORY = 256 * 1024 * 1024
"""Address space of the process in bytes."""
MAX_OUTPUT = 200_000
"""Characters that a script may print."""
MAX_COMPILED = 100
"""Scripts that are kept compiled."""
_DESCRIPTORS = 32


class TimeLimitError(BaseException):
    """The script ran too long. Not an ``Exception``, which filters of Jinja suppress."""


class _OutputLimitError(Exception):
    pass


@lru_cache(MAX_COMPILED)
def _compiled(source: str) -> Any:
    return ScriptEnvironment(Functions(0)).compile(source)


def run(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``text`` and ``debug``, and ``failure`` with ``kind``, ``text`` and ``line``."""
    functions = Functions(job.get("now"))
    environment = ScriptEnvironment(functions)
    variables = {**job["variables"], **{name: UnknownValue(name) for name in job["unknown"]}}
    if job["unknown"]:
        environment.guard_tests()
    pieces: list[str] = []
    failure: dict[str, Any] | None = None
    try:
        template = environment.template_class.from_code(
            environment, _compiled(job["source"]), environment.globals, None
        )
        size = 0
        for piece in template.generate(variables):
            size += len(piece)
            if size > MAX_OUTPUT:
                raise _OutputLimitError  # noqa: TRY301 - as other failures of the script
            pieces.append(piece)
    except (Exception, TimeLimitError) as error:  # noqa: BLE001 - a script raises what it likes
        failure = _failure(error)
    return {"text": "".join(pieces), "debug": functions.debug_lines, "failure": failure}


def _failure(error: BaseException) -> dict[str, Any]:
    """Describe what a script raised, with its line where that is known."""
    line = error.lineno if isinstance(error, TemplateSyntaxError) else _line(error)
    kind, text = next((kind, text) for raised, kind, text in _FAILURES if isinstance(error, raised))
    return {"kind": kind, "text": (text or _described(error))[:1_000], "line": line}


_FAILURES = (
    (TimeLimitError, "time", "it ran too long"),
    (_OutputLimitError, "output", f"it printed more than {MAX_OUTPUT:,} characters"),
    (MemoryError, "memory", f"it used more than {MEMORY >> 20} MiB of memory"),
    (RecursionError, "recursion", "it is nested too deeply, or calls itself too often"),
    (PolicyNotAppliedError, "not applied", ""),
    (UnknownValueError, "unknown", ""),
    (TemplateSyntaxError, "syntax", ""),
    (SyntaxError, "syntax", ""),
    (SecurityError, "refused", ""),
    (UndefinedError, "undefined", ""),
    (BaseException, "error", ""),
)
"""Kind and text of each failure; the first class that fits decides."""


def _described(error: BaseException) -> str:
    if isinstance(error, TemplateSyntaxError | SyntaxError):
        return (error.message if isinstance(error, TemplateSyntaxError) else error.msg) or "invalid"
    if isinstance(error, PolicyNotAppliedError):
        return f"pex_require_min_length: {error}"
    text = str(error)
    named = type(error).__module__ == "builtins"
    return f"{type(error).__name__}: {text}" if named or not text else text


def _line(error: BaseException) -> int | None:
    """Return the line of the script: Jinja's frames have its numbers."""
    found, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            template = trace.tb_frame.f_globals.get("__jinja_template__")
            found = trace.tb_lineno
            if template is not None:
                found = template.get_corresponding_lineno(found)
        trace = trace.tb_next
    return found


def encoded(message: object) -> bytes:
    """Encode a message as JSON, whose numbers and texts have no limits."""
    return json.dumps(message).encode()


def _limit() -> None:
    """Set the limits of the kernel, where the system has them."""
    for name, value in (
        ("RLIMIT_AS", MEMORY),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_NOFILE", _DESCRIPTORS),
        ("RLIMIT_NPROC", 0),
    ):
        if hasattr(resource, name):
            resource.setrlimit(getattr(resource, name), (value, value))


def main() -> None:
    """Run jobs until the other end closes its socket."""
    server = Connection(parent_socket().detach())
    nothing = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nothing, descriptor)
    signal.signal(signal.SIGALRM, _ring)
    _limit()
    while True:
        try:
            job = json.loads(server.recv_bytes())
        except (EOFError, ConnectionError):
            return
        try:
            signal.setitimer(signal.ITIMER_REAL, max(job["seconds"], 0.001))
            try:
                result = run(job)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except (TimeLimitError, MemoryError) as error:
            result = {"text": "", "debug": [], "failure": _failure(error)}
        server.send_bytes(encoded(result))


def _ring(_number: int, _frame: FrameType | None) -> None:
    raise TimeLimitError


if __name__ == "__main__":
    main()
