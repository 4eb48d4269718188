"""pytest plugin that shows how two decisions differ, and starts servers.

pytest loads it wherever pexpolicy is installed, so it imports nothing of the package before a test
asks for it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from importlib import import_module
from typing import Any

import pytest


@pytest.fixture
def pexpolicy_server() -> Iterator[Callable[..., Any]]:
    """Return a function that starts a server and returns its URLs, for tests without ``async``.

    It takes what ``pexpolicy.testing.server`` takes; the servers stop at the end of the test.
    """
    server, servers = import_module("pexpolicy.testing").server, AsyncExitStack()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def start(*subject: Any, **options: Any) -> Any:
        opening = servers.enter_async_context(server(*subject, **options))
        return asyncio.run_coroutine_threadsafe(opening, loop).result()

    try:
        yield start
        asyncio.run_coroutine_threadsafe(servers.aclose(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Return the lines for ``assert left == right`` with two decisions."""
    models = sys.modules.get("pexpolicy.models.decision")
    if op != "==" or models is None:
        return None
    if not (isinstance(left, models.Decision) and isinstance(right, models.Decision)):
        return None
    return [f"{left!r} == {right!r}", *_differences(left, right)]


def _differences(left: Any, right: Any) -> Iterator[str]:
    """Yield a line for each field that differs; values of secret fields are not shown."""
    if type(left) is not type(right):
        yield f"{type(left).__name__} is not a {type(right).__name__}"
        return
    mine, theirs = left.set_fields(), right.set_fields()
    for name in {**mine, **theirs}:
        if name not in mine or name not in theirs or mine[name] != theirs[name]:
            values = [repr(sent[name]) if name in sent else "unset" for sent in (mine, theirs)]
            yield f"{name}: {_shown(left, name, values)}"


def _shown(decision: Any, name: str, values: list[str]) -> str:
    contract = sys.modules["pexpolicy.models.contract"].contract_of(type(decision))
    nested = contract.nested_models.get(name)
    is_known = name in contract.names and name not in contract.secrets
    if is_known and not (nested is not None and nested.secrets):
        return " != ".join(values)
    if "unset" in values:
        return " != ".join(value if value == "unset" else "***" for value in values)
    return "the values differ, and are not shown because they may be secret"
