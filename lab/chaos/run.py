"""The run of one case, from the start of the server to the verdict."""

import tempfile
from pathlib import Path

from lab.chaos import verdict
from lab.chaos.case import Case
from lab.chaos.target import Target
from lab.chaos.verdict import Verdict


def run(case: Case, seconds: float) -> Verdict:
    """Start a server with the plugin, load it for ``seconds``, stop it, and return the verdict."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        target = Target(case, Path(folder) / "served")
        started = target.start()
        if not started or not case.starts:
            ended = target.stop()
            if not case.starts:
                return verdict.refused_start(case, ended)
            wrong = [f"it did not start: {ended.output[-300:]}"]
            return Verdict(case.name, wrong=wrong)
        try:
            calls = target.under_load(seconds)
            alive = target.is_alive
        finally:
            ended = target.stop()
        judged = verdict.of(case, calls, target.audit(), ended)
        if not alive:
            judged.wrong.append(f"the server is gone: exit code {ended.code}")
        return judged
