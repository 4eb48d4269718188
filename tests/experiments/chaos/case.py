"""One misbehaving plugin: its module, its table, and what has to come of it."""

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
"""Who answers: the plugin behind it, a refusal, the misbehaving plugin itself, or nobody since the
budget is gone."""


@dataclass(frozen=True)
class Case:
    """A plugin called ``bad`` that answers for services, or fails to.

    ``outcomes`` are those that its step may have, ``must`` those that have to occur, ``replies``
    are those who may answer instead, ``detail`` is a text that some step has to say, ``says`` one
    that has to be on standard error. ``starts`` is false where the server has to refuse to start,
    ``loses`` is true where calls may go without an answer, as the documentation says.
    """

    name: str
    source: str
    table: str = ""
    outcomes: tuple[str, ...] = ("failed",)
    must: tuple[str, ...] = ()
    replies: tuple[str, ...] = (NEXT,)
    detail: str = ""
    says: str = ""
    starts: bool = True
    code: int = os.EX_CONFIG
    """Exit code where it does not start."""
    loses: bool = False

    @property
    def has_to_occur(self) -> tuple[str, ...]:
        return self.must or self.outcomes[:1]

    @property
    def is_asked(self) -> bool:
        """True when the audit line of a call has a step of the plugin."""
        return bool(self.outcomes)


def module(body: str) -> str:
    """A drop-in module whose class has these members."""
    return f"{HEAD}\n\nclass Bad:\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n"


def hook(
    body: str, *, blocks: bool = False, also: str = "", name: str = "service_configuration"
) -> str:
    """A drop-in module with one hook, ``def`` where it ``blocks`` and else ``async def``."""
    argument = "outcome" if name == "on_decision" else "request"
    kind = "def" if blocks else "async def"
    inner = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    return module(f"{textwrap.dedent(also)}\n@hookimpl\n{kind} {name}(self, {argument}):\n{inner}")


def good(also: str) -> str:
    """A module whose hook answers well, with further members of the class."""
    return hook(f"return {MINE}", also=also)
