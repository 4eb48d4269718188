"""The process of the console: its socket, certificate, signals and end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec

from aiohttp import web

from pexpolicy.access.connections import Connections
from pexpolicy.cli import for_console as core
from pexpolicy.config.problems import SettingsError
from pexpolicy_console.action_log import ActionLog
from pexpolicy_console.app import create_app
from pexpolicy_console.children import JOB_TIMEOUT_S, DryRuns, Job
from pexpolicy_console.config_file import ConfigFile
from pexpolicy_console.context import Console
from pexpolicy_console.index.index import Index
from pexpolicy_console.login.attempts import LoginAttempts
from pexpolicy_console.protocol import LIMITS, ConsoleProtocol
from pexpolicy_console.server_client import ServerClient

STOP_TIMEOUT_S = 1.0
"""Time to answer the requests in flight at the end; streams are closed at once."""
CERTIFICATE_POLL_INTERVAL_S = 10.0
BACKLOG = 128
YOUNG_THRESHOLD = 20_000
"""Objects between two collections, which by default take a tenth of the time of the index."""
POLL_INTERVAL_S = 0.5
"""Time between two looks for the parent, and for connections whose time is over."""


class ConsoleError(Exception):
    """The console cannot start; the message says what to change."""


def console_from(config: ConfigFile, admin_port: int | None = None) -> Console:
    """Return the parts of a console. Creates its folder; raises ``ConsoleError``."""
    try:
        config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConsoleError(
            f"console.folder: {config.folder} cannot be created ({error.strerror}): name a folder "
            "in which this user may write, such as /var/lib/pexpolicy-console"
        ) from None
    table = config.settings.console
    if text := core.console_exposure(table):
        raise ConsoleError(f"console.host: {text}")
    if table.oidc is not None and find_spec("joserfc") is None:
        raise ConsoleError("console.oidc: install the extra, pexpolicy-console[oidc]")
    try:
        tenants = core.Tenants(config.settings.tenants)
    except SettingsError:
        tenants = core.Tenants()
    database, index = None, "index"
    if config.settings.audit.ship is not None:
        # Its lines have other places than those of the files.
        database, index = partial(core.Database, config.settings), "index-of-database"
    actions = ActionLog(config.folder)
    return Console(
        config,
        ServerClient(config, admin_port),
        actions,
        LoginAttempts(actions),
        Index(config.folder / index, config.audit, config.written, database, tenants.of),
        DryRuns(config.path),
        Job("verification", config.path),
        Job("replay", config.path, JOB_TIMEOUT_S),
    )


async def serve(
    console: Console,
    listener: socket.socket,
    on_ready: Callable[[], None],
    parent: int | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, or while ``parent`` is the parent; raise ``ConsoleError``."""
    gc.set_threshold(YOUNG_THRESHOLD)
    stop, loop, connections = asyncio.Event(), asyncio.get_running_loop(), Connections(LIMITS)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def is_shared(peer: str) -> bool:
        return core.Networks(console.config.settings.console.trusted_proxies).holds(peer)

    runner = web.AppRunner(create_app(console), shutdown_timeout=STOP_TIMEOUT_S)
    certificate = _certificate(console.config)
    # The end of the event loop ends it.
    renewal = certificate and asyncio.create_task(_renew(*certificate))
    await runner.setup()
    assert runner.server is not None
    try:
        accepting = await loop.create_server(
            partial(ConsoleProtocol, runner.server, loop, connections, is_shared),
            sock=listener,
            ssl=certificate and certificate[1],
            backlog=BACKLOG,
            ssl_handshake_timeout=None if renewal is None else LIMITS.request_seconds,
        )
        if parent in (None, os.getppid()):
            on_ready()
        while not stop.is_set() and parent in (None, os.getppid()):
            connections.expire()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), POLL_INTERVAL_S)
        accepting.close()
    finally:
        await runner.cleanup()


def _certificate(config: ConfigFile) -> tuple[core.CertificateFiles, ssl.SSLContext] | None:
    """Return the files of ``[tls]`` and their TLS context, if the console serves HTTPS."""
    settings = config.settings
    if not settings.console.tls:
        return None
    if settings.tls is None:
        raise ConsoleError("console.tls: there is no [tls] with a certificate")
    try:
        # Only nodes have client certificates.
        found = core.CertificateFiles.of(settings.tls, settings.path.parent)
        files = found._replace(client_ca=None)
        return files, core.load_certificate(files).context
    except core.CertificateError as error:
        raise ConsoleError(f"tls.{error.key}: {error}") from None


async def _renew(files: core.CertificateFiles, context: ssl.SSLContext) -> None:
    password = files.password.get_secret_value() if files.password is not None else ""
    while True:
        await asyncio.sleep(CERTIFICATE_POLL_INTERVAL_S)
        # Files that do not fit each other yet are tried again.
        with suppress(core.CertificateError, OSError):
            core.load_certificate(files)
            context.load_cert_chain(files.certificate, files.key, password)
