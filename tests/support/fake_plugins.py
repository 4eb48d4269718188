"""Plugins and policies made up on the spot."""

import inspect
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pexpolicy import hookimpl
from pexpolicy.audit.factory import open_audit
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import Settings
from pexpolicy.plugins.discovery import PluginSource
from pexpolicy.policy import Policy
from pexpolicy.server.generations import generation_of
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.listener import Listener
from tests.support import secret_canaries, wire

Hook = Callable[..., Any]


def plugin(**hooks: Hook) -> type:
    """A plugin class with these functions, which take the request, as its hooks."""

    def build(self: object, settings: object) -> None:
        assert self is not settings

    made = {name: staticmethod(hookimpl(_hook(function))) for name, function in hooks.items()}
    return type("Toy", (), {"__init__": build, **made})


def _hook(function: Hook) -> Hook:
    """A function in the shape that the hook specifications ask for."""
    if inspect.iscoroutinefunction(function):

        async def waits(request: Any) -> Any:
            return await function(request)

        return waits

    def blocks(request: Any) -> Any:
        return function(request)

    return blocks


def always(answer: object) -> Hook:
    """A hook that answers the same each time."""

    async def hook(_: object) -> object:
        return answer

    return hook


def raises(error: BaseException) -> Hook:
    """A hook that raises."""

    async def hook(_: object) -> object:
        raise error

    return hook


def available(classes: Mapping[str, Any]) -> dict[str, PluginSource]:
    """Plugins to choose from, as if they were installed."""
    return {name: one_available(name, found) for name, found in classes.items()}


def one_available(name: str, found: Any) -> PluginSource:
    """One plugin, as if it were installed."""
    return PluginSource(name, f"toy-{name}", "1.0", f"toys:{name}", lambda: found)


def settings(tables: Mapping[str, Mapping[str, Any]] | None = None, **document: Any) -> Settings:
    """Settings with these tables of plugins, and any other table by name."""
    return from_document({"plugins": dict(tables or {}), **document}, Path("config.toml"), "0" * 16)


@dataclass
class Log:
    """Keeps what is logged."""

    events: list[dict[str, Any]] = field(default_factory=list)

    def warning(self, event: str, **fields: object) -> None:
        self.events.append({"event": event, **fields})


def policy(
    classes: Mapping[str, type],
    tables: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    clock: Callable[[], float] | None = None,
    log: Log | None = None,
    **document: Any,
) -> Policy:
    """A policy of these plugins, asked in the order in which they are given."""
    written = {name: dict((tables or {}).get(name, {})) for name in classes}
    timed: dict[str, Any] = {} if clock is None else {"clock": clock}
    return build_policy(
        settings(written, **document), available=available(classes), log=log, **timed
    )


@dataclass(frozen=True)
class Serving:
    """A policy that answers on a port of this machine."""

    port: int
    audit: Path
    log: Log

    async def ask(self, target: str | bytes, **options: Any) -> wire.Reply:
        """One request."""
        return await wire.ask(self.port, target, **options)

    def lines(self) -> list[dict[str, Any]]:
        """The audit so far."""
        return [json.loads(line) for line in self.audit.read_bytes().splitlines()]

    def steps(self) -> list[tuple[str, str]]:
        """Who was asked by the last call, and what came of it."""
        return [(step["plugin"], step["outcome"]) for step in self.lines()[-1]["steps"]]

    def details(self) -> str:
        """What the last call has to say of its steps."""
        steps = self.lines()[-1]["steps"]
        return " ".join(step["detail"] for step in steps if "detail" in step)


@asynccontextmanager
async def serve(served: Policy, audit: Path, log: Log | None = None) -> AsyncIterator[Serving]:
    """Serve a policy inside this program, with an audit in a file."""
    noted = log or Log()
    written = open_audit(audit)
    service = PolicyApp(generation_of(served, written), noted, served.settings.server.base_path)
    try:
        async with served.serving(), Listener(service, ("127.0.0.1", 0)).open() as sockets:
            yield Serving(sockets[0].getsockname()[1], audit, noted)
    finally:
        written.close()
    assert not secret_canaries.found_in(str(noted.events))


Serve = Callable[..., AbstractAsyncContextManager[Serving]]
"""The fixture `serving`."""
