"""Every cell of the table in docs/failures.md: what happened, on_error, endpoint."""

import asyncio
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from pexpolicy import Continue
from pexpolicy.chain.hook_tasks import PluginBusyError
from tests.support import wire
from tests.support.fake_plugins import Hook, Serve, always, plugin, raises
from tests.support.paths import ROOT

DOC = ROOT / "docs" / "failures.md"


def cells() -> Iterator[tuple[str, str, str, str]]:
    """Outcome, on_error, endpoint and what follows, from the table in the docs."""
    lines = DOC.read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("| outcome | endpoint |"))
    settings = _row(lines[start])[2:]
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return
        outcomes, endpoints, *follows = _row(line)
        for outcome, endpoint in product(outcomes.split("; "), endpoints.split(", ")):
            for on_error, what in zip(settings, follows, strict=True):
                yield outcome, on_error, endpoint, what


def _row(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


async def waits_for_ever(_: object) -> object:
    await asyncio.sleep(3600)
    return None


def broken(outcome: str) -> tuple[Hook, dict[str, Any], dict[str, Any]]:
    """A hook that comes to this outcome, with the keys of its plugin and of the server."""
    hooks: dict[str, tuple[Hook, dict[str, Any], dict[str, Any]]] = {
        "failed": (raises(ValueError()), {}, {}),
        "timed_out": (waits_for_ever, {"timeout": 0.02}, {}),
        "invalid": (always(3.5), {}, {}),
        "busy": (raises(PluginBusyError()), {}, {}),
        "skipped, breaker open": (raises(ValueError()), {"breaker": True}, {}),
        "skipped, budget gone": (always(None), {}, {"budget": 0.02}),
    }
    return hooks[outcome]


@pytest.mark.parametrize(("outcome", "on_error", "endpoint", "follows"), list(cells()))
async def test_what_the_docs_say_follows(
    serving: Serve, outcome: str, on_error: str, endpoint: str, follows: str
) -> None:
    hook, keys, server_keys = broken(outcome)
    classes = {
        "slow": plugin(**{endpoint: waits_for_ever}),
        "broken": plugin(**{endpoint: hook}),
        "next": plugin(**{endpoint: always(Continue(reason="next"))}),
    }
    budget_gone = outcome.endswith("budget gone")
    if not budget_gone:
        del classes["slow"]
    tables = {"broken": {**keys, "on_error": on_error}}
    before = 5 if outcome == "skipped, breaker open" else 0
    async with serving(classes, tables, server=server_keys) as server:
        for _ in range(before):
            await server.ask(wire.TARGETS[endpoint])
        reply = await server.ask(wire.TARGETS[endpoint])
        steps = dict(server.steps())
    assert steps["broken"] == outcome.partition(",")[0]
    decided_by = reply.json["decided_by"]
    match follows:
        case "next":
            assert (decided_by, reply.json["reason"]) == ("next", "next")
        case "default":
            assert (decided_by, steps["next"]) == ("default", "skipped")
        case "reject":
            assert (decided_by, reply.status, reply.action) == ("broken", 200, "reject")
            assert not reply.result
        case "404":
            assert (decided_by, reply.status) == ("broken", 404)
        case "empty":
            assert (decided_by, reply.result, reply.json["ignore_local"]) == ("broken", [], True)
        case _:
            raise AssertionError(follows)


def test_the_table_has_every_cell() -> None:
    table = list(cells())
    assert len(table) == 6 * 2 * 6
    assert {endpoint for *_, endpoint, _ in table} == set(wire.TARGETS)
