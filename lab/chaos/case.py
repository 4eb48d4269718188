"""One misbehaving plugin: its module, its table, and the expected result."""

import os
import textwrap
from dataclasses import dataclass

HEAD = """\
import asyncio, ctypes, os, signal, sys, threading, time
from contextlib import asynccontextmanager
from pexpolicy import Conference, Continue, MediaLocation, Reject, hookimpl
"""
MINE = 'Conference(name="bad", service_tag="bad")'
"""A valid decision of a misbehaving plugin."""

NEXT, REJECT, BAD, DEFAULT = "next", "reject", "bad", "default"
"""The reply: from the next plugin, a reject, from the misbehaving plugin, or the default because
the budget is used up."""


@dataclass(frozen=True)
class Case:
    """A plugin called ``bad`` that answers for services, or fails to.

    ``outcomes`` are the allowed outcomes of its step, ``must`` those that have to occur; without it
    the first one has to. ``replies`` are the allowed replies. ``detail`` has to occur in a step,
    ``says`` on standard error.
    ``starts`` is false if the server has to refuse to start. ``interrupts`` is true if the plugin
    cancels all tasks: calls get the default reply and the log tells of an internal fault; a call
    that was not read yet gets none.
    """

    name: str
    source: str
    table: str = ""
    outcomes: tuple[str, ...] = ("failed",)
    must: tuple[str, ...] | None = None
    replies: tuple[str, ...] = (NEXT,)
    detail: str = ""
    says: str = ""
    starts: bool = True
    code: int = os.EX_CONFIG
    """Exit code if it does not start."""
    interrupts: bool = False

    @property
    def has_to_occur(self) -> tuple[str, ...]:
        return self.outcomes[:1] if self.must is None else self.must

    @property
    def is_asked(self) -> bool:
        """True when the audit line of a call has a step of the plugin."""
        return bool(self.outcomes)


def module(body: str) -> str:
    """Return a drop-in module whose class has these members."""
    return f"{HEAD}\n\nclass Bad:\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n"


def hook(
    body: str, *, blocks: bool = False, also: str = "", name: str = "service_configuration"
) -> str:
    """Return a drop-in module with one hook: ``def`` if it ``blocks``, else ``async def``."""
    argument = "outcome" if name == "on_decision" else "request"
    kind = "def" if blocks else "async def"
    inner = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    return module(f"{textwrap.dedent(also)}\n@hookimpl\n{kind} {name}(self, {argument}):\n{inner}")


def good(also: str) -> str:
    """Return a module whose hook answers correctly, with further members of the class."""
    return hook(f"return {MINE}", also=also)
