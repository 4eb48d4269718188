"""What the handlers of requests share, and what each request carries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from aiohttp import web

from pexpolicy.cli.for_console import TrustedProxies
from pexpolicy_console.action_log import ActionLog
from pexpolicy_console.children import DryRuns, Job
from pexpolicy_console.config_file import ConfigFile
from pexpolicy_console.index.index import Index
from pexpolicy_console.login.attempts import LoginAttempts
from pexpolicy_console.login.sessions import Session, Sessions
from pexpolicy_console.server_client import ServerClient


@dataclass(frozen=True, slots=True)
class Console:
    """The parts of a running console."""

    config: ConfigFile
    server: ServerClient
    sessions: Sessions
    actions: ActionLog
    attempts: LoginAttempts
    index: Index
    dry_runs: DryRuns
    verification: Job
    replay: Job
    streams: Counter[str] = field(default_factory=Counter)
    """Open streams of each user."""


CONSOLE = web.AppKey("console", Console)
SESSION: web.RequestKey[Session] = web.RequestKey("session", Session)


def console_of(request: web.Request) -> Console:
    """Return the console that answers a request."""
    return request.config_dict[CONSOLE]


def peer_of(request: web.Request) -> str:
    """Return the address that a request came from; that of its client if it is from a trusted
    proxy.
    """
    peer = request.remote or ""
    proxies = console_of(request).config.settings.console.trusted_proxies
    trusted = TrustedProxies(proxies)
    return (trusted.client(peer, request) or peer) if trusted.holds(peer) else peer
