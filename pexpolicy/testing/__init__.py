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
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import aiohttp
from yarl import URL

from pexpolicy.config.secrets import revealed
from pexpolicy.config.settings import ConfigError, PluginStartupError
from pexpolicy.events.dispatch import EventDispatcher
from pexpolicy.events.receiver import EventReceiver
from pexpolicy.models.outcome import Outcome, Step
from pexpolicy.models.request import Request, collect_errors
from pexpolicy.policy import Policy
from pexpolicy.server.generations import generation_of
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.listener import Listener, bind
from pexpolicy.server.http.listener import url_of as url_of_socket
from pexpolicy.server.route_listeners import admin_listener, api_listener
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
from pexpolicy.testing.cases import Case, CasesError, judge, load_cases
from pexpolicy.testing.management_api import ManagementApi
from pexpolicy.testing.requests import ABSENT, RequestError, make_request, url_of
from pexpolicy.testing.simulator import Simulator

__all__ = [
    "ABSENT",
    "Case",
    "CasesError",
    "ConfigError",
    "ManagementApi",
    "Outcome",
    "PluginStartupError",
    "Policy",
    "RequestError",
    "Server",
    "Simulator",
    "Step",
    "assert_case",
    "capture_audit",
    "client",
    "decide",
    "decide_sync",
    "load_cases",
    "make_policy",
    "make_request",
    "server",
    "url_of",
]


async def decide(
    plugins: Subject,
    request: Request,
    *,
    config: Config | None = None,
    raise_exceptions: bool = False,
    timeouts: bool = True,
    at: datetime | None = None,
) -> Outcome:
    """Decide a request without HTTP, and return the outcome with each step.

    The plugins are built and their ``lifespan`` is entered for this one request; for several
    requests, pass a serving policy (``make_policy``). ``config`` is the rest of the configuration
    file. Raises ``ConfigError`` where a server would not start.

    ``raise_exceptions`` raises what a plugin raised, ``DecisionError`` for an invalid answer and
    ``TimeoutError`` for a late one, so that ``pytest --pdb`` stops there. Without ``timeouts`` no
    plugin is late. ``at`` is the time that ``wall_clock()`` and conditions see, with a zone::

        outcome = await decide([Doors, Rooms], make_request("service_configuration"))
        assert (outcome.decided_by, outcome.decision.action) == ("doors", "reject")
        assert [step.outcome for step in outcome.steps] == ["decided"]
    """
    async with opened(plugins, config, timeouts=timeouts, at=at) as policy:
        audit = capturing_audit_log(policy.settings)
        errors = collect_errors(request) if raise_exceptions else []
        outcome = await asked(policy, request, audit)
        if errors:
            raise errors[0]

        policy.run_background(outcome, shadowed=[partial(audit.shadow, policy.policy_hash)])
    return outcome


def decide_sync(plugins: Subject, request: Request, **options: Any) -> Outcome:
    """Decide a request in a test that is a plain function; ``options`` are those of ``decide``.

    Raises ``RuntimeError`` inside a running event loop, and ``TypeError`` for a serving policy,
    which belongs to an event loop of its own::

        assert decide_sync(Doors, make_request("media_location")).decided_by == "default"
    """
    _require_no_event_loop("decide_sync", plugins)
    return asyncio.run(decide(plugins, request, **options))


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs in this process."""

    url: str
    """Where nodes ask, with the base path."""
    admin_url: str
    """Where operators ask, and the routes of plugins are; empty if ``[admin]`` is disabled."""
    admin_token: str = field(repr=False)
    """The token of ``[admin]``; empty without one."""
    api_url: str = ""
    """Where other programs ask; empty without ``[api]``."""


@asynccontextmanager
async def server(
    plugins: Subject, *, config: Config | None = None, at: datetime | None = None
) -> AsyncIterator[Server]:
    """Run a server with these plugins in this process, with its limits and other listeners.

    It listens on free ports of 127.0.0.1, without TLS. Raises ``ConfigError`` where a server would
    not start::

        async with server(Doors) as running, aiohttp.ClientSession() as http:
            reply = await http.put(f"{running.admin_url}/plugins/doors/closed")
            assert reply.status == 204
    """
    async with opened(plugins, config, at=at) as policy:
        settings, log = policy.settings, Log()
        generation = generation_of(policy, capturing_audit_log(settings))
        receiver = EventReceiver(lambda: policy.shared_state, policy.context.wall_clock)
        service = PolicyApp(generation, log, settings.server.base_path, events=receiver)
        dispatcher = EventDispatcher(receiver, lambda: policy.event_observers, log)
        plain = settings.model_copy(update={"tls": None})
        with (
            bind("127.0.0.1", 0) as nodes,
            bind("127.0.0.1", 0) if settings.admin.enabled else nullcontext() as operators,
            bind("127.0.0.1", 0) if settings.api is not None else nullcontext() as programs,
        ):
            async with (
                dispatcher.running() if settings.events is not None else nullcontext(),
                admin_listener(service, operators),
                api_listener(service, programs, plain),
                Listener(service, nodes, settings=plain).open(0.0),
            ):
                sockets = nodes, operators, programs
                urls = ["" if one is None else url_of_socket(one) for one in sockets]
                token = revealed(settings.admin_token)
                yield Server(urls[0] + settings.server.base_path, urls[1], token, urls[2])


@asynccontextmanager
async def client(plugins: Subject, **options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a client session of aiohttp for such a server, for the requests of nodes.

    ``options`` are those of ``server``. The path of a request begins with the base path::

        async with client(Doors) as http:
            reply = await http.get(url_of(make_request("service_configuration")))
            assert (await reply.json())["action"] == "reject"
    """
    async with (
        server(plugins, **options) as running,
        aiohttp.ClientSession(URL(running.url).origin()) as http,
    ):
        yield http


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
            row = await judge(policy, case)
            return "" if row.ok else str(row)

    if text := asyncio.run(difference()):
        raise AssertionError(text)


def _require_no_event_loop(name: str, plugins: Subject) -> None:
    if isinstance(plugins, Policy):
        raise TypeError(f"a serving policy belongs to its own event loop: pass {name} the plugins")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"{name} is for plain functions; in a coroutine, await decide(…)")
