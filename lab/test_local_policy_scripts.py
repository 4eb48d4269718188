"""Generated scripts, against plain Jinja with filters that were written a second time."""

import json
import re
from collections import Counter
from collections.abc import Callable

from pexpolicy_local_policy.language import ALL_FILTERS
from pexpolicy_local_policy.script_process import Rendering
from pexpolicy_local_policy.variables import from_test_page
from pexpolicy_local_policy.verdict import judge
from tests.support.generated_scripts import KINDS, ScriptWriter
from tests.support.plain_jinja import Printed, printed

SCRIPTS = 1_000
SEED = 20_260_115


def test_scripts_print_what_plain_jinja_prints(render: Callable[..., Rendering]) -> None:
    writer = ScriptWriter(SEED)
    outcomes, names, sources = Counter[str](), Counter[str](), set[str]()
    for number in range(SCRIPTS):
        kind = KINDS[number % len(KINDS)]
        source = writer.script(kind)
        sources.add(source)
        names.update(re.findall(r"pex_\w+|(?<=\|)\w+", source))
        variables, now = writer.variables(kind), writer.moment()
        expected = printed(source, variables, now)
        done = render(source, now, **variables)
        assert result(done) == expected, f"script {number}: {source}\n{variables}\n{done}"
        document = judge(from_test_page(variables, kind), done).document
        assert document == read(expected), source
        outcomes[expected.failure or ("JSON" if document is not None else "other text")] += 1
    assert len(sources) > SCRIPTS * 0.9
    assert min(names[name] for name in ALL_FILTERS) >= 10
    assert outcomes["JSON"] > SCRIPTS / 2, outcomes
    assert min(outcomes[name] for name in ("other text", "failed", "not applied")) > 5


def result(done: Rendering) -> Printed:
    """Return what a run gave in the words of the other implementation."""
    if done.failure is None:
        return Printed(done.text, done.debug, None)
    return Printed(
        "", done.debug, "not applied" if done.failure.kind == "not applied" else "failed"
    )


def read(expected: Printed) -> object:
    """Return the JSON of a text, ``None`` where it is none."""
    try:
        return None if expected.failure else json.loads(expected.text)
    except ValueError:
        return None
