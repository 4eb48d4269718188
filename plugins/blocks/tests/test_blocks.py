"""Callers and aliases that are blocked for an hour."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pexpolicy import Store
from pexpolicy.background.shared import shared_state
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.policy import BuildContext, Policy
from pexpolicy.testing import make_request
from pexpolicy_blocks import Block, Blocks
from tests.support import installed

NOW = 1_795_000_000.0
HOUR = (NOW - 60, NOW + 3540)
Call = Callable[..., str]


@pytest.fixture
async def policy(tmp_path: Path) -> AsyncIterator[Policy]:
    rooms = {"settings": {"rooms": {"board@example.com": {"name": "Board"}}}}
    document = {"plugins": {"rooms": rooms, "blocks": {}}}
    settings = from_document(document, tmp_path / "config.toml")
    context = BuildContext(wall_clock=lambda: NOW)
    policy = build_policy(settings, available=installed.plugins(), context=context)
    async with policy.serving(in_server=True):
        yield policy


async def block(policy: Policy, key: str, since: float, until: float) -> None:
    """Write an entry as another process does, and let the plugin read it."""
    state = shared_state(policy.settings, is_dry=False)
    store = Store("blocks", Block)
    store.bind("blocks", state)
    await store.put(key, Block(since, until, "ada", "abuse"))
    await state.close()
    (plugin,) = (one.instance for one in policy.plugins if isinstance(one.instance, Blocks))
    await plugin._read()


async def answer(policy: Policy, caller: str, called: str, endpoint: str) -> str:
    request = make_request(endpoint, local_alias=called, remote_alias=caller)
    decision = (await policy.answer(request, "an id")).outcome.decision
    return f"{decision.action}: {decision.reason}" if decision.reason else decision.action


@pytest.mark.parametrize("endpoint", ["service_configuration", "participant_properties"])
@pytest.mark.parametrize(
    ("key", "caller", "called", "kind"),
    [
        ("caller/alice@example.com", "sip:Alice@Example.com", "board@example.com", "caller"),
        ("caller/alice@example.com", "bob@example.com", "board@example.com", ""),
        ("caller/alice@example.com", "bob@example.com", "alice@example.com", ""),
        ("called/board@example.com", "bob@example.com", "sip:BOARD@example.com", "called"),
        ("called/board@example.com", "board@example.com", "bob@example.com", ""),
        ("called/other@example.com", "bob@example.com", "elsewhere@example.com", ""),
    ],
)
async def test_calls_of_blocked_aliases_are_rejected(
    policy: Policy, endpoint: str, key: str, caller: str, called: str, kind: str
) -> None:
    await block(policy, key, *HOUR)
    found = await answer(policy, caller, called, endpoint)
    assert found.startswith("reject: the ") == bool(kind), found
    assert not kind or f"the {kind} alias is blocked until" in found


@pytest.mark.parametrize("times", [(NOW - 3600, NOW), (NOW + 1, NOW + 60)])
async def test_a_block_holds_from_its_beginning_to_its_end(
    policy: Policy, times: tuple[float, float]
) -> None:
    await block(policy, "called/board@example.com", *times)
    found = await answer(policy, "bob@example.com", "board@example.com", "service_configuration")
    assert not found.startswith("reject")
