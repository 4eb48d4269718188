"""Fixtures that run a script in a process."""

from collections.abc import Callable
from typing import Any

import pytest

from pexpolicy_local_policy.variables import Kind, from_test_page
from pexpolicy_local_policy.verdict import Verdict, judge
from tests.support.local_policy import CALL, ROOM
from tests.support.script_runs import Render, render

__all__ = ["render"]


@pytest.fixture
def verdict(render: Render) -> Callable[..., Verdict]:
    """Return a function that runs a script, and says what Infinity makes of it."""

    def run(source: str, kind: Kind = "service", **document: Any) -> Verdict:
        found = from_test_page({"call_info": CALL, "service_config": ROOM, **document}, kind)
        return judge(found, render(source, **found.variables))

    return run
