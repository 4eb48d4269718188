"""Fake plugins, and policies and servers built from them."""

import inspect
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from pexpolicy import hookimpl
from pexpolicy.access.connections import ConnectionLimits
from pexpolicy.audit.audit_log import AuditLog, audit_of
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import Settings
from pexpolicy.plugins.discovery import PluginSource
from pexpolicy.policy import BuildContext, Policy
from pexpolicy.server.generations import generation_of
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.listener import Listener, bind
from tests.support import secret_canaries, wire

Hook = Callable[..., Any]


def plugin(**hooks: Hook) -> type:
    """Build a plugin class with these functions of the request as its hooks.

    Those of hooks that adjust are functions of the decision.
    """

    def build(self: object, settings: object) -> None:
        assert self is not settings

    members = {
        name: staticmethod(hookimpl(_hook(name, function))) for name, function in hooks.items()
    }
    return type("FakePlugin", (), {"__init__": build, **members})


def _hook(name: str, function: Hook) -> Hook:
    """Wrap a function as a hook implementation."""
    if name.startswith("adjust_"):

        async def adjusts(decision: Any) -> Any:
            return await function(decision)

        return adjusts
    if inspect.iscoroutinefunction(function):

        async def waits(request: Any) -> Any:
            return await function(request)

        return waits

    def blocks(request: Any) -> Any:
        return function(request)

    return blocks


def always(answer: object) -> Hook:
    """Return a hook that gives the same answer each time."""

    async def hook(_: object) -> object:
        return answer

    return hook


def raises(error: BaseException) -> Hook:
    """Return a hook that raises."""

    async def hook(_: object) -> object:
        raise error

    return hook


def available(classes: Mapping[str, Any]) -> dict[str, PluginSource]:
    """Return plugin sources as if the classes were installed."""
    return {name: plugin_source(name, found) for name, found in classes.items()}


def plugin_source(name: str, found: Any) -> PluginSource:
    """Return a plugin source as if the class were installed."""
    return PluginSource(name, f"toy-{name}", "1.0", f"toys:{name}", lambda: found)


def settings(tables: Mapping[str, Mapping[str, Any]] | None = None, **document: Any) -> Settings:
    """Return settings with these plugin tables, and other tables by name."""
    return from_document({"plugins": dict(tables or {}), **document}, Path("config.toml"))


@dataclass
class Log:
    """Log that records its events."""

    events: list[dict[str, Any]] = field(default_factory=list)

    def warning(self, event: str, **fields: object) -> None:
        self.events.append({"event": event, **fields})


def policy(
    classes: Mapping[str, type],
    tables: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    clock: Callable[[], float] | None = None,
    log: Log | None = None,
    options: Mapping[str, Any] | None = None,
    **document: Any,
) -> Policy:
    """Build a policy of these plugins, called in this order."""
    merged = {name: dict((tables or {}).get(name, {})) for name in classes}
    given = dict(options or {}) | ({} if clock is None else {"clock": clock})
    return build_policy(
        settings(merged, **document),
        available=available(classes),
        context=BuildContext(log=log, **given),
    )


@dataclass(frozen=True)
class Serving:
    """A policy that answers on a loopback port."""

    port: int
    audit: Path
    log: Log

    async def ask(self, target: str | bytes, **options: Any) -> wire.Reply:
        """Send one request."""
        return await wire.ask(self.port, target, **options)

    def lines(self) -> list[dict[str, Any]]:
        """Return the audit lines so far."""
        return [json.loads(line) for line in self.audit.read_bytes().splitlines()]

    def steps(self) -> list[tuple[str, str]]:
        """Return plugin and outcome of each step of the last call."""
        return [(step["plugin"], step["outcome"]) for step in self.lines()[-1]["steps"]]

    def details(self) -> str:
        """Return the details of the steps of the last call."""
        steps = self.lines()[-1]["steps"]
        return " ".join(step["detail"] for step in steps if "detail" in step)


def open_audit(path: Path, sign_key: str | None = None, **table: Any) -> AuditLog:
    """Open an audit file as a server does."""
    made = settings(audit={"path": str(path.absolute()), **table})
    key = None if sign_key is None else SecretStr(sign_key)
    return audit_of(made.model_copy(update={"sign_key": key}), sys.stderr.write)


def _remove_end(audit: Path) -> None:
    """Leave a file as a server that was killed does."""
    if audit.is_file():
        *lines, last = audit.read_bytes().splitlines(keepends=True) or [b""]
        audit.write_bytes(b"".join(lines) + last * (b'"event":"end"' not in last))


@asynccontextmanager
async def serve(
    served: Policy, audit: Path, log: Log | None = None, limits: Mapping[str, Any] | None = None
) -> AsyncIterator[Serving]:
    """Serve a policy in this process, with an audit file and other limits of connections."""
    used_log = log or Log()
    opened = open_audit(audit)
    service = PolicyApp(generation_of(served, opened), used_log, served.settings.server.base_path)
    try:
        with bind("127.0.0.1", 0) as bound:
            listening = Listener(service, bound, limits=ConnectionLimits(**limits or {}))
            async with served.serving(), listening.open():
                yield Serving(bound.getsockname()[1], audit, used_log)
    finally:
        opened.close()
        _remove_end(audit)
    assert not secret_canaries.find_canaries(str(used_log.events))


Serve = Callable[..., AbstractAsyncContextManager[Serving]]
"""The fixture `serving`."""
