"""The language of local policy scripts: Jinja's sandbox with Infinity's names and nothing else.

The sandbox limits what a script can reach. What it may use of time and memory is limited by the
process that it runs in: see ``worker``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from jinja2 import TemplateSyntaxError, nodes, pass_context
from jinja2.filters import FILTERS
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import SandboxedEnvironment, safe_range
from jinja2.utils import Cycler, Joiner, Namespace
from markupsafe import Markup

from pexpolicy_local_policy.functions import TEXT_FILTERS, Functions, Moment, UnknownValue

BUILT_IN_FILTERS = (
    *("abs", "capitalize", "default", "first", "float", "format", "int", "join", "last"),
    *("length", "lower", "range", "replace", "round", "striptags", "trim", "truncate", "upper"),
)
"""The filters of Jinja that Infinity allows (documented)."""
MAX_SCRIPT_LENGTH = 49_152
"""Characters of a script that Infinity stores (documented)."""
MAX_DIGITS = 4_300
"""Digits of a number that Python reads."""
_KEPT_GLOBALS = ("cycler", "dict", "joiner", "namespace")
_VALUES = frozenset(
    (
        *(str, int, float, bool, list, tuple, dict, range, Markup, Moment, Namespace),
        *(Cycler, Joiner, LoopContext, Macro, Undefined),
    )
)
"""Types whose public attributes a script may read."""
_STATEMENTS: Mapping[type[nodes.Node], str] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from",
    nodes.Extends: "extends",
    nodes.Block: "block",
}


class ScriptEnvironment(SandboxedEnvironment):
    """The environment of one run of a script.

    Lists and objects can be changed in place, unlike in Jinja's immutable sandbox: scripts in use
    extend lists.
    """

    def __init__(self, functions: Functions) -> None:
        # Without both, constants would be computed once, while the script is compiled.
        super().__init__(optimized=False, finalize=_unchanged, cache_size=0, autoescape=False)
        found = functions.by_name()
        built_in = {name: FILTERS[name] for name in BUILT_IN_FILTERS if name != "range"}
        self.filters = {**built_in, "range": safe_range, **TEXT_FILTERS, **found}
        kept = {name: self.globals[name] for name in _KEPT_GLOBALS}
        self.globals = {**kept, "range": safe_range, **found}

    def guard_tests(self) -> None:
        """Let tests such as ``is none`` read a variable that is unknown."""
        known = ("defined", "undefined")
        self.tests = {
            name: test if name in known else _guarded(test) for name, test in self.tests.items()
        }

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return whether the attribute is a public one of a plain value."""
        return not attr.startswith("_") and type(obj) in _VALUES

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        try:
            tree = super()._parse(source, name, filename)
        except ValueError:
            # Python refuses numbers this long, as converting them takes too much time.
            raise TemplateSyntaxError(f"a number has more than {MAX_DIGITS:,} digits", 1) from None
        for found in tree.find_all(tuple(_STATEMENTS)):
            text = f"{_STATEMENTS[type(found)]}: a script is a single text without other templates"
            raise TemplateSyntaxError(text, found.lineno)
        return tree


@pass_context
def _unchanged(_context: Context, value: Any) -> Any:
    return value


def _guarded(test: Any) -> Callable[..., Any]:
    @wraps(test)
    def guarded(*arguments: Any) -> Any:
        for value in arguments:
            if isinstance(value, UnknownValue):
                value.touch()
        return test(*arguments)

    return guarded


def parse(source: str) -> nodes.Template:
    """Return the syntax tree of a script; raises ``TemplateSyntaxError`` and ``RecursionError``."""
    return ScriptEnvironment(Functions(0)).parse(source)
