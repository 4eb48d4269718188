"""Checks of a script that do not run it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import TemplateSyntaxError, nodes

from pexpolicy_local_policy.branches import MAX_BRANCHES, branches, is_call_of
from pexpolicy_local_policy.language import unknown_filters, unknown_points
from pexpolicy_local_policy.sandbox import MAX_SCRIPT_LENGTH, parse
from pexpolicy_local_policy.variables import Kind
from pexpolicy_local_policy.verdict import ACTIONS

CALLER = ("remote_alias", "remote_display_name", "vendor", "local_alias", "call_tag")
"""Values of ``call_info`` that callers choose."""
_FORGED = {"remote_alias", "remote_display_name", "vendor"}


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One finding; ``level`` is error, warning or note, and ``line`` 0 for the whole script."""

    level: str
    line: int
    text: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{self.level}: {where}{self.text}"


def lint(source: str, kind: Kind) -> list[LintFinding]:
    """Return the findings about a script, in the order of its lines."""
    found = []
    if len(source) > MAX_SCRIPT_LENGTH:
        text = f"{len(source):,} characters, and Infinity stores {MAX_SCRIPT_LENGTH:,}"
        found.append(LintFinding("error", 0, text))
    try:
        tree = parse(source)
    except TemplateSyntaxError as error:
        return [*found, LintFinding("error", error.lineno, error.message or "is no script")]
    except RecursionError:
        return [*found, LintFinding("error", 0, "is nested too deeply")]
    found += [LintFinding("error", line, text) for line, text in unknown_filters(tree)]
    found += [LintFinding("note", line, text) for line, text in unknown_points(tree)]
    found += _branches(tree, kind)
    found += _debug_calls(tree)
    found += _quoted(tree)
    found += _trust(tree)
    return sorted(dict.fromkeys(found), key=lambda one: one.line)


def _branches(tree: nodes.Template, kind: Kind) -> Iterator[LintFinding]:
    """Yield what is wrong with the JSON of each branch."""
    ways, more = branches(tree)
    for branch in ways:
        line = max((line for line, held in branch.taken if held), default=0)
        repeated: list[str] = []

        def pairs(items: list[tuple[str, object]], repeated: list[str] = repeated) -> object:
            names = [name for name, _ in items]
            repeated += {name for name in names if names.count(name) > 1}
            return dict(items)

        try:
            document = json.loads(branch.text, object_pairs_hook=pairs)
        except (ValueError, RecursionError) as error:
            text = f"the output is not JSON ({branch}): {error}"
            yield LintFinding("error", line, text)
            continue
        for name in repeated:
            yield LintFinding("warning", line, f"{name!r} is printed twice in one object")
        actions = ACTIONS.get(kind, ())
        if not isinstance(document, dict):
            yield LintFinding("error", line, f"the output is no object ({branch})")
        elif actions and document.get("action") not in (*actions, "x"):
            text = f"the action is not one of {', '.join(actions)} ({branch})"
            yield LintFinding("error", line, text)
        elif kind == "media_location" and "result" not in document:
            yield LintFinding("error", line, f"there is no result ({branch})")
    if more:
        yield LintFinding("note", 0, f"only the first {MAX_BRANCHES} branches were tried")


def _debug_calls(tree: nodes.Template) -> Iterator[LintFinding]:
    for call in tree.find_all(nodes.Call):
        if is_call_of(call, "pex_debug_log"):
            text = "pex_debug_log writes to the support log at each call: remove it"
            yield LintFinding("warning", call.lineno, text)


def _quoted(tree: nodes.Template) -> Iterator[LintFinding]:
    """Yield values of callers between quotes, which a quote in the value breaks."""
    for output in tree.find_all(nodes.Output):
        for part in output.nodes:
            if isinstance(part, nodes.Getattr) and part.attr in CALLER:
                text = f"a quote or backslash in {part.attr} breaks the JSON: use pex_to_json"
                yield LintFinding("warning", part.lineno, text)


def _trust(tree: nodes.Template) -> Iterator[LintFinding]:
    """Yield conditions that depend on nothing but what a caller claims."""
    for condition in tree.find_all(nodes.If):
        read = {
            node.attr
            for node in condition.test.find_all(nodes.Getattr)
            if isinstance(node.node, nodes.Name) and node.node.name == "call_info"
        }
        if read and read <= _FORGED:
            text = f"trusts {', '.join(sorted(read))} alone, which any caller can choose"
            yield LintFinding("warning", condition.lineno, text)
