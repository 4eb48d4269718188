"""Checks of a script: runs with sample variables, and what its text tells."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from jinja2 import TemplateSyntaxError, nodes

from pexpolicy import Decision, DecisionError
from pexpolicy.models.contract import NO_EXTRAS, Extras
from pexpolicy_local_policy.language import unknown_filters, unknown_points
from pexpolicy_local_policy.lint_samples import NAME, Sample, samples
from pexpolicy_local_policy.sandbox import MAX_SCRIPT_LENGTH, parse
from pexpolicy_local_policy.script_process import Job, Rendering, ScriptPool
from pexpolicy_local_policy.variables import Kind
from pexpolicy_local_policy.verdict import judge

CheckNames = Callable[[Decision], None]
"""Raises ``DecisionError`` for a decision with a name that Infinity does not know."""
CALLER = ("remote_alias", "remote_display_name", "vendor", "local_alias", "call_tag")
"""Values of ``call_info`` that callers choose."""
_WITHOUT_QUOTES = (
    *("abs", "float", "int", "length", "round"),
    *("pex_base64", "pex_clean_phone_number", "pex_hash", "pex_md5", "pex_strlen", "pex_to_json"),
    *("pex_to_uuid", "pex_url_encode"),
)
"""Filters whose output has neither quotes nor backslashes."""
_PIN = re.compile(r"\d{4,}")
"""Digits that may be a PIN which the script holds."""
_FORGED = {"remote_alias", "remote_display_name", "vendor"}
_QUOTE = re.compile(r'(?<!\\)(?:\\\\)*"')
_DECISIONS = (nodes.And, nodes.Call, nodes.Compare, nodes.Const, nodes.Not, nodes.Or, nodes.Test)
"""Expressions whose value is an outcome, and not the value of a caller itself."""
_Sources = Mapping[str, frozenset[str]]
"""The values of ``call_info`` that each variable is made of."""
_Reader = Callable[[nodes.Node, _Sources], frozenset[str]]


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One finding; ``level`` is error, warning or note, and ``line`` 0 for the whole script."""

    level: str
    line: int
    text: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{self.level}: {where}{self.text}"


async def lint(
    pool: ScriptPool,
    source: str,
    kind: Kind,
    extras: Extras = NO_EXTRAS,
    names: CheckNames | None = None,
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
    wrong = [LintFinding("error", line, text) for line, text in unknown_filters(tree)]
    found += wrong
    found += [LintFinding("note", line, text) for line, text in unknown_points(tree)]
    for call in tree.find_all(nodes.Call):
        if _calls(call, "pex_debug_log"):
            text = "pex_debug_log writes to the support log at each call: remove it"
            found.append(LintFinding("warning", call.lineno, text))
    found += _quoted(tree)
    found += _trust(tree)
    told: set[tuple[int, str]] = set()
    for sample in () if wrong else samples(kind, tree):
        rendering = await pool.run(Job(source, sample.given.variables))
        line = (rendering.failure and rendering.failure.line) or 0
        for level, text in _judged(sample, rendering, extras, names):
            # One sample is enough for each field, and for each line.
            if (about := (line, text.partition(":")[0])) not in told:
                told.add(about)
                shown = _PIN.sub("****", f"{text} (with {sample.name})")
                found.append(LintFinding(level, line, shown))
        if rendering.failure is not None and rendering.failure.kind in _LAST:
            break
    return sorted(dict.fromkeys(found), key=lambda one: one.line)


_LAST = ("time", "memory", "output", "process")
"""Failures after which no other sample is tried: each could take as long."""


def _judged(
    sample: Sample, rendering: Rendering, extras: Extras, names: CheckNames | None
) -> Iterator[tuple[str, str]]:
    """Yield level and text of what Infinity makes of the output for a sample."""
    failure, verdict = rendering.failure, judge(sample.given, rendering, extras)
    if failure is not None:
        if failure.kind != "not applied":
            yield sample.fails, f"the script fails: {failure.text}"
    elif verdict.dropped:
        yield sample.dropped if verdict.document is not None else "error", verdict.dropped
    for text in verdict.warnings if sample.fails != "note" else ():
        # Without the list of all fields, which may have fifty.
        yield "warning", re.sub(r"; there are [^;]*", "", text)
    if names is not None and verdict.decision is not None:
        try:
            names(verdict.decision)
        except DecisionError as error:
            if error.refusal.value != NAME:
                yield "error", f"{error.refusal.field}: {error.refusal.rule}"


def _calls(node: nodes.Node, name: str) -> bool:
    """Return whether a node calls a function of this name."""
    return (
        isinstance(node, nodes.Call)
        and isinstance(node.node, nodes.Name)
        and node.node.name == name
    )


def _sources(
    tree: nodes.Template, read: Callable[[nodes.Node, _Sources], frozenset[str]]
) -> _Sources:
    """Return what each variable is made of, by what ``read`` returns for an expression."""
    made: dict[str, frozenset[str]] = {}
    for _ in range(2):  # twice, as a loop may read what it assigns later
        pairs: list[tuple[nodes.Node, nodes.Node]]
        pairs = [(one.target, one.node) for one in tree.find_all(nodes.Assign)]
        pairs += [(one.target, one.iter) for one in tree.find_all(nodes.For)]
        for target, value in pairs:
            for name in _names(target):
                made[name] = made.get(name, frozenset()) | read(value, made)
    return made


def _names(node: nodes.Node) -> frozenset[str]:
    """Return the variables in an expression."""
    inside = {found.name for found in node.find_all(nodes.Name)}
    return frozenset({node.name, *inside} if isinstance(node, nodes.Name) else inside)


def _quoted(tree: nodes.Template) -> Iterator[LintFinding]:
    """Yield values of callers between quotes, which a quote in the value breaks."""
    variables = _sources(tree, _of_callers)
    for output in tree.find_all(nodes.Output):
        before = ""
        for part in output.nodes:
            if isinstance(part, nodes.TemplateData):
                before += str(part.data)
            elif isinstance(part, nodes.Filter) and part.name == "pex_to_json":
                if len(_QUOTE.findall(before)) % 2 == 1:
                    text = "pex_to_json prints quotes of its own: leave out those around it"
                    yield LintFinding("warning", part.lineno, text)
            else:
                for name in sorted(_of_callers(part, variables)):
                    text = f"a quote or backslash in {name} breaks the JSON: use pex_to_json"
                    yield LintFinding("warning", part.lineno, text)


def _of_callers(part: nodes.Node, variables: _Sources) -> frozenset[str]:
    """Return the values of callers that an expression may print as they are."""
    inner: Iterable[nodes.Node | None]
    match part:
        case nodes.Compare() | nodes.Test() | nodes.Not():
            return frozenset()
        case nodes.Filter(name=name) if name in _WITHOUT_QUOTES:
            return frozenset()
        case nodes.Call() if _calls(part, "pex_debug_log"):
            return frozenset()
        case nodes.Name(name=name):
            return variables.get(name, frozenset())
        case nodes.Getattr(attr=name) | nodes.Getitem(arg=nodes.Const(value=name)) if (
            name in CALLER
        ):
            return frozenset({name})
        case nodes.CondExpr(expr1=first, expr2=second):
            inner = (first, second)
        case nodes.Filter(node=filtered):
            inner = (filtered,)
        case _:
            inner = tuple(part.iter_child_nodes())
    found = (_of_callers(child, variables) for child in inner if child is not None)
    return frozenset[str]().union(*found)


def _trust(tree: nodes.Template) -> Iterator[LintFinding]:
    """Yield conditions that depend on nothing but what a caller claims."""
    variables = _sources(tree, _read)
    decisions = {
        name
        for one in tree.find_all(nodes.Assign)
        if isinstance(one.node, _DECISIONS)
        for name in _names(one.target)
    }
    for condition in tree.find_all(nodes.If):
        test = condition.test
        # Testing whether there is any value trusts no caller, even if a variable holds the value.
        if isinstance(test, nodes.Name) and test.name not in decisions:
            continue
        read = _read(test, variables) if not isinstance(test, nodes.Getattr) else frozenset()
        if read and read <= _FORGED:
            text = f"trusts {', '.join(sorted(read))} alone, which any caller can choose"
            yield LintFinding("warning", condition.lineno, text)


def _read(expression: nodes.Node, variables: _Sources) -> frozenset[str]:
    """Return what of ``call_info`` decides the value of an expression."""
    found = [*expression.find_all(nodes.Getattr)]
    found += [expression] if isinstance(expression, nodes.Getattr) else []
    read = {
        one.attr
        for one in found
        if isinstance(one.node, nodes.Name) and one.node.name == "call_info"
    }
    named = (variables.get(name, frozenset()) for name in _names(expression))
    return frozenset(read).union(*named)
