"""The generator of audit-lines.md: the fields of a line, outcomes of steps, reasons of refusals."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise
from pathlib import Path
from types import ModuleType

from docs.generate_settings import table
from pexpolicy.access import refusals
from pexpolicy.audit.records import DecisionRecord
from pexpolicy.models import outcome
from pexpolicy.models.attribute_docs import attribute_docs

FIELDS = """# Audit lines

From the code that writes them. An example, and what is left out of every line:
[operations](operations.md#the-audit-line). Each line ends in `boot_id`, `seq` and `hash`, its place
in [the chain](audit.md#the-chain); `instance`, `after`, `previous_file`, `prev` and `lost_count`
are added when needed.

## Decisions

Fields without a value are absent, but for `reason` and `sent`, which are null. The word in brackets
in a warning is its [level of evidence](reference.md#confidence-in-a-statement).

"""
STEPS = """
## Steps

Each step has `plugin`, `outcome`, `ms` and, after a failure, `detail`; steps of adjusters have
`hook`, those of [merged](configuration.md#endpointsname-what-answers-when-no-plugin-decides)
decisions the names of the `fields` that the plugin gave. After `failed`, `timed_out`, `invalid`,
`busy` and `skipped`, [`on_error`](failures.md#what-follows) applies.

"""
REFUSALS = """
## Reloads

A reload leaves a line of `"event":"reload"` with `accepted`, `policy_hash_before`, `policy_hash`
(that which is active after it), `changes` by name, the first `error` of one that was refused, and
the `author` who asked for it by command or console. `back_to` is the policy hash of an earlier
configuration that an administrator [went back to](tasks/roll-back.md#go-back-at-once). A start from
[the last good files](tasks/roll-back.md#a-server-that-started-from-its-last-good-files) leaves
one of a refusal.

## Changes

What a client changes through a plugin, such as a booking system or a command, leaves a line of
`"event":"change"` with the `plugin`, the `peer` and what the plugin names. Those of `meetings` have
`action` (`meeting_created`, `meeting_patched`, `meeting_cancelled`, `pins_shown`, …), `tenant`, the
name of the `token`, `meeting`, and the names of the `changed` fields, never their values. A write
that is refused leaves `meeting_refused` with the `status` and the `errors` of the answer.

## Refusals

A request that is refused before it reaches a plugin leaves a line of `"event":"refused"` with
`timestamp`, `reason`, `status`, `peer` and `policy_hash`, and with `endpoint` if it was one of the
six. Status 0: the connection was closed without a reply. After five lines, the refusals of one
address and reason share a line every 10 s, with their number (`times`) and what is known of the
last one.

"""


def page() -> str:
    """Return the whole page."""
    fields = attribute_docs(DecisionRecord)
    assert fields.keys() == set(DecisionRecord.__struct_fields__)
    parts = (
        (FIELDS, "field", fields),
        (STEPS, "outcome", _words(outcome)),
        (REFUSALS, "reason", _words(refusals)),
    )
    return "".join(
        intro
        + table((head, "meaning"), [(f"`{k}`", v.replace("``", "`")) for k, v in docs.items()])
        for intro, head, docs in parts
    )


def _words(module: ModuleType) -> dict[str, str]:
    """Return the docstring after each constant of a module that is a text, by its value."""
    docs = {}
    for node, following in pairwise(ast.parse(inspect.getsource(module)).body):
        match node, following:
            case (
                ast.Assign(value=ast.Constant(value=str(word))),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docs[word] = " ".join(text.split())
            case _:
                pass
    docs.pop(outcome.DEFAULT, None)
    return docs


if __name__ == "__main__":
    (Path(__file__).parent / "audit-lines.md").write_text(page(), encoding="utf-8")
