"""Checks of a script that do not run it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import TemplateSyntaxError, nodes

from pexpolicy.models.extras import NO_EXTRAS, Extras
from pexpolicy_local_policy.assignments import Assignment, Sources, assignments, sources
from pexpolicy_local_policy.branches import MAX_BRANCHES, branches, is_call_of, is_quoted
from pexpolicy_local_policy.constants import UNKNOWN, names_of
from pexpolicy_local_policy.language import unknown_filters, unknown_points
from pexpolicy_local_policy.lint_result import CheckNames, check_document
from pexpolicy_local_policy.sandbox import MAX_SCRIPT_LENGTH, parse
from pexpolicy_local_policy.variables import Kind
from pexpolicy_local_policy.verdict import JSON_NUMBERS, brief_name

CALLER = ("remote_alias", "remote_display_name", "vendor", "local_alias", "call_tag")
"""Values of ``call_info`` that callers choose."""
_WITHOUT_QUOTES = (
    *("abs", "float", "int", "length", "round"),
    *("pex_base64", "pex_clean_phone_number", "pex_hash", "pex_md5", "pex_strlen", "pex_to_json"),
    *("pex_to_uuid", "pex_url_encode"),
)
"""Filters whose output has neither quotes nor backslashes."""
_FORGED = {"remote_alias", "remote_display_name", "vendor"}
_DECISIONS = (nodes.And, nodes.Call, nodes.Compare, nodes.Const, nodes.Not, nodes.Or, nodes.Test)
"""Expressions whose value is an outcome, and not the value of a caller itself."""


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One finding; ``level`` is error, warning or note, and ``line`` 0 for the whole script."""

    level: str
    line: int
    text: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{self.level}: {where}{self.text}"


def lint(
    source: str, kind: Kind, extras: Extras = NO_EXTRAS, names: CheckNames | None = None
) -> list[LintFinding]:
    """Return the findings about a script, in the order of its lines.

    ``extras`` are fields and values that Infinity has too, and ``names`` checks names of its
    objects.
    """
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
    found += _branches(tree, kind, extras, names)
    found += _debug_calls(tree)
    assigned = assignments(tree)
    found += _quoted(tree, sources(assigned, lambda one, made: _of_callers(one.value, made)))
    found += _trust(tree, assigned)
    return sorted(dict.fromkeys(found), key=lambda one: one.line)


def _branches(
    tree: nodes.Template, kind: Kind, extras: Extras, names: CheckNames | None
) -> Iterator[LintFinding]:
    """Yield what is wrong with the JSON of each branch."""
    ways, more = branches(tree)
    reported: set[tuple[int, str]] = set()
    for branch in ways:
        line = max((line for line, held in branch.taken if held), default=0)
        repeated: list[str] = []

        def pairs(items: list[tuple[str, object]], repeated: list[str] = repeated) -> object:
            written = [name for name, _ in items]
            repeated += {name for name in written if written.count(name) > 1 and name != UNKNOWN}
            return dict(items)

        try:
            document = json.loads(branch.text, object_pairs_hook=pairs, **JSON_NUMBERS)
        except (ValueError, RecursionError) as error:
            text = f"the output is not JSON ({branch}): {error}"
            yield LintFinding("error", line, text)
            continue
        for name in repeated:
            yield LintFinding("warning", line, f"{brief_name(name)} is printed twice in one object")
        for level, text in check_document(kind, document, extras, names):
            if (line, text) not in reported:
                reported.add((line, text))
                yield LintFinding(level, line, f"{text} ({branch})")
    if more:
        yield LintFinding("note", 0, f"only the first {MAX_BRANCHES} branches were tried")


def _debug_calls(tree: nodes.Template) -> Iterator[LintFinding]:
    for call in tree.find_all(nodes.Call):
        if is_call_of(call, "pex_debug_log"):
            text = "pex_debug_log writes to the support log at each call: remove it"
            yield LintFinding("warning", call.lineno, text)


def _quoted(tree: nodes.Template, variables: Sources) -> Iterator[LintFinding]:
    """Yield values of callers between quotes, which a quote in the value breaks."""
    for output in tree.find_all(nodes.Output):
        before = ""
        for part in output.nodes:
            if isinstance(part, nodes.TemplateData):
                before += str(part.data)
            elif _is_json(part):
                if is_quoted(before):
                    text = "pex_to_json prints quotes of its own: leave out those around it"
                    yield LintFinding("warning", part.lineno, text)
            else:
                for name in sorted(_of_callers(part, variables)):
                    text = f"a quote or backslash in {name} breaks the JSON: use pex_to_json"
                    yield LintFinding("warning", part.lineno, text)


def _is_json(part: nodes.Node) -> bool:
    return isinstance(part, nodes.Filter) and part.name == "pex_to_json"


def _of_callers(part: nodes.Node, variables: Sources) -> frozenset[str]:
    """Return the values of callers that an expression may print as they are."""
    if (
        is_call_of(part, "pex_debug_log")
        or isinstance(part, nodes.Compare | nodes.Test | nodes.Not)
        or (isinstance(part, nodes.Filter) and part.name in _WITHOUT_QUOTES)
    ):
        return frozenset()
    if isinstance(part, nodes.Name):
        return variables.get(part.name, frozenset())
    if isinstance(part, nodes.Getattr) and part.attr in CALLER:
        return frozenset({part.attr})
    if isinstance(part, nodes.Getitem) and isinstance(part.arg, nodes.Const):
        return frozenset({str(part.arg.value)} & {*CALLER})
    inner: tuple[nodes.Node | None, ...]
    if isinstance(part, nodes.CondExpr):
        inner = (part.expr1, part.expr2)
    elif isinstance(part, nodes.Filter):
        inner = (part.node,)
    else:
        inner = tuple(part.iter_child_nodes())
    found = (_of_callers(child, variables) for child in inner if child is not None)
    return frozenset[str]().union(*found)


def _trust(tree: nodes.Template, assigned: list[Assignment]) -> Iterator[LintFinding]:
    """Yield conditions that depend on nothing but what a caller claims."""
    variables = sources(assigned, _read_by_assignment)
    decisions = {one.name for one in assigned if isinstance(one.value, _DECISIONS)}
    for condition in tree.find_all(nodes.If):
        test = condition.test
        read = _read_directly(test)
        # Testing whether there is any value trusts no caller, even if a variable holds the value.
        if not isinstance(test, nodes.Name) or test.name in decisions:
            read |= _read_by_name(test, variables)
        if read and read <= _FORGED:
            text = f"trusts {', '.join(sorted(read))} alone, which any caller can choose"
            yield LintFinding("warning", condition.lineno, text)


def _read_directly(test: nodes.Node) -> frozenset[str]:
    return frozenset(
        node.attr
        for node in test.find_all(nodes.Getattr)
        if isinstance(node.node, nodes.Name) and node.node.name == "call_info"
    )


def _read_by_name(expression: nodes.Node, variables: Sources) -> frozenset[str]:
    named = (variables.get(name, frozenset()) for name in names_of(expression))
    return frozenset[str]().union(*named)


def _read_by_assignment(one: Assignment, variables: Sources) -> frozenset[str]:
    """Return what of ``call_info`` decides the value of a variable."""
    read: frozenset[str] = frozenset()
    for expression in (one.value, *one.conditions):
        if isinstance(expression, nodes.Getattr):
            read |= {expression.attr}
        read |= _read_directly(expression) | _read_by_name(expression, variables)
    return read
