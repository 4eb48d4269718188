"""Testing kit for plugin authors: requests as Infinity sends them, and decisions without a server.

Any test runner will do; in pytest, a failed comparison of two decisions names the fields that
differ::

    from pexpolicy.testing import decide_sync, make_request


    def test_the_doors_are_shut_at_night():
        outcome = decide_sync((Doors, {"opens": 8}), make_request("service_configuration"))
        assert outcome.decision.action == "reject"

Plugins are built, checked, ordered and asked as in a server. The subject is a plugin class, a pair
of a class and its settings, an instance, several of them in a list or in a mapping by name, or the
``Path`` of a configuration file. A plugin that fails does not raise: its step of the outcome has
the error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestClient
from yarl import URL

from pexpolicy.config.settings import ConfigError, PluginStartupError
from pexpolicy.models.outcome import Outcome, Step
from pexpolicy.models.request import Request, collect_errors
from pexpolicy.policy import Policy
from pexpolicy.server.generations import generation_of
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.listener import Listener, bind
from pexpolicy.testing.build import (
    Config,
    Log,
    Subject,
    asked,
    capture_audit,
    capturing_audit_log,
    make_policy,
    opened,
)
from pexpolicy.testing.cases import Case, CasesError, load_cases
from pexpolicy.testing.requests import ABSENT, RequestError, make_request, url_of
from pexpolicy.testing.runner import judge

__all__ = [
    "ABSENT",
    "Case",
    "CasesError",
    "ConfigError",
    "Outcome",
    "PluginStartupError",
    "Policy",
    "RequestError",
    "Step",
    "assert_case",
    "capture_audit",
    "client",
    "decide",
    "decide_sync",
    "load_cases",
    "make_policy",
    "make_request",
    "url_of",
]


async def decide(
    plugins: Subject,
    request: Request,
    *,
    config: Config | None = None,
    raise_exceptions: bool = False,
    timeouts: bool = True,
) -> Outcome:
    """Decide a request without HTTP, and return the outcome with each step.

    The plugins are built and their ``lifespan`` is entered for this one request; for several
    requests, pass a serving policy (``make_policy``). ``config`` is the rest of the configuration
    file. Raises ``ConfigError`` where a server would not start.

    ``raise_exceptions`` raises what a plugin raised, ``DecisionError`` for an invalid answer and
    ``TimeoutError`` for a late one, so that ``pytest --pdb`` stops there. Without ``timeouts`` no
    plugin is late::

        outcome = await decide([Doors, Rooms], make_request("service_configuration"))
        assert (outcome.decided_by, outcome.decision.action) == ("doors", "reject")
        assert [step.outcome for step in outcome.steps] == ["decided"]
    """
    async with opened(plugins, config, timeouts=timeouts) as policy:
        audit = capturing_audit_log(policy.settings)
        errors = collect_errors(request) if raise_exceptions else []
        outcome = (await asked(policy, request, audit)).outcome
        if errors:
            raise errors[0]
        policy.run_background(outcome, audit)
    return outcome


def decide_sync(
    plugins: Subject,
    request: Request,
    *,
    config: Config | None = None,
    raise_exceptions: bool = False,
    timeouts: bool = True,
) -> Outcome:
    """Decide a request in a test that is a plain function; otherwise like ``decide``.

    Raises ``RuntimeError`` inside a running event loop, and ``TypeError`` for a serving policy,
    which belongs to an event loop of its own::

        assert decide_sync(Doors, make_request("media_location")).decided_by == "default"
    """
    _require_no_event_loop("decide_sync", plugins)
    options = {"raise_exceptions": raise_exceptions, "timeouts": timeouts}
    return asyncio.run(decide(plugins, request, config=config, **options))


@asynccontextmanager
async def client(
    plugins: Subject, *, config: Config | None = None
) -> AsyncIterator[TestClient[web.BaseRequest, None]]:
    """Yield the test client of aiohttp on the real service with these plugins.

    It listens on a free port of 127.0.0.1. Raises ``ConfigError`` where a server would not start::

        async with client(Doors) as http:
            reply = await http.get(url_of(make_request("service_configuration")))
            assert (await reply.json())["action"] == "reject"
    """
    async with opened(plugins, config) as policy:
        generation = generation_of(policy, capturing_audit_log(policy.settings))
        service = PolicyApp(generation, Log(), policy.settings.server.base_path)
        listener = bind("127.0.0.1", 0)
        http: TestClient[web.BaseRequest, None]
        http = TestClient(_Listening(*listener.getsockname()))
        async with Listener(service, listener, is_plain=True).open(0.0), http:
            yield http


class _Listening(BaseTestServer):
    """A server that is open already, for the client of aiohttp."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host=host, port=port)
        self._root = URL(f"http://{host}:{port}")

    async def _make_runner(self, **options: Any) -> NoReturn:
        raise NotImplementedError

    async def start_server(self, *_: object, **__: object) -> None:
        """Do nothing."""


def assert_case(plugins: Subject, case: Case, *, config: Config | None = None) -> None:
    """Decide one case of a file; raise ``AssertionError`` with the differences and the steps.

    For parametrised tests::

        @pytest.mark.parametrize("case", load_cases("cases.toml"), ids=str)
        def test_case(case):
            assert_case(Path("config.toml"), case)
    """
    __tracebackhide__ = True
    _require_no_event_loop("assert_case", plugins)

    async def difference() -> str:
        async with opened(plugins, config) as policy:
            row, _ = await judge(policy, case)
            return "" if row.ok else str(row)

    if text := asyncio.run(difference()):
        raise AssertionError(text)


def _require_no_event_loop(name: str, plugins: Subject) -> None:
    if isinstance(plugins, Policy):
        msg = f"a serving policy belongs to its own event loop: pass {name} the plugins"
        raise TypeError(msg)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    msg = f"{name} is for plain functions; in a coroutine, await decide(…)"
    raise RuntimeError(msg)
