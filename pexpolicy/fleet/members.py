"""The servers of one policy: what each says of itself, and in what they differ."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from pexpolicy.config.outgoing import tls_context
from pexpolicy.config.problems import SettingsError
from pexpolicy.config.settings import Settings
from pexpolicy.errors import describe_network_error
from pexpolicy.tasks import run_in_thread

TIMEOUT_S = 5.0
MAX_BYTES = 1 << 20
NOT_OURS = "the reply is not the status of a server: the admin listener is at admin.port, or 9107"


@dataclass(frozen=True, slots=True)
class Member:
    """One server; times are seconds of the Unix epoch. ``silent`` says why nothing is known."""

    url: str
    instance: str = ""
    version: str = ""
    plugins: Mapping[str, str] = field(default_factory=dict)
    policy_hash: str = ""
    since: float | None = None
    """When it began to decide by this policy."""
    not_ready: str = ""
    refused: str = ""
    """The first error of the files that it refused to load."""
    audit: str = ""
    audit_lag: float | None = None
    """Seconds since all of its lines were in the database of ``[audit.ship]``, if it has one."""
    last_call: float | None = None
    silent: str = ""
    bundle: str = ""
    """The version of its bundle."""

    @property
    def name(self) -> str:
        """What to call it."""
        return f"{self.instance} ({self.url})" if self.instance else self.url


def member_of(url: str, body: bytes) -> Member:
    """Return what a status document says; raises ``ValueError`` for another document."""
    try:
        document = orjson.loads(body)
        config, audit, bundle = document["config"], document["audit"], document.get("bundle") or {}
        refused = [*config["problems"], "the last reload was refused"][0]
        calls = [float(node["last_call"]) for node in document["nodes"] if node["last_call"]]
        return Member(
            url,
            str(document.get("instance") or ""),
            str(document["version"]),
            {str(one["name"]): str(one["version"]) for one in document["plugins"]},
            str(config["policy_hash"]),
            float(config["activated_at"]),
            "" if document["ready"] else "; ".join(document["not_ready_reasons"]) or "not ready",
            str(bundle.get("problem") or "" if config["last_reload_successful"] else refused),
            str(audit.get("problem") or audit.get("status", "")),
            None if audit.get("ship_lag") is None else float(audit["ship_lag"]),
            max(calls, default=None),
            bundle=str(bundle.get("version") or ""),
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        raise ValueError(NOT_OURS) from None


def differences(members: Sequence[Member], expected: str | None = None) -> list[str]:
    """Return why these servers may decide differently: the empty list if they agree.

    ``expected`` is the policy hash that each must have, or the version of pexpolicy or the bundle.
    """
    found, known = [], [one for one in members if not one.silent]
    for one in members:
        found += [f"{one.name}: {one.silent}"] * bool(one.silent)
        found += [f"{one.name}: is not ready: {one.not_ready}"] * bool(one.not_ready)
        found += [f"{one.name}: keeps its policy, as it refused: {one.refused}"] * bool(one.refused)
        has = [text for text in (one.policy_hash, one.version, one.bundle) if text]
        if not one.silent and expected is not None and expected not in has:
            found.append(f"{one.name}: has {', '.join(has)}, not {expected}")
    for key in ("policy_hash", "version", "bundle", "plugins"):
        having: dict[str, list[str]] = {}
        for one in known:
            value = getattr(one, key)
            text = value if isinstance(value, str) else ", ".join(map(" ".join, value.items()))
            having.setdefault(text, []).append(one.name)
        if len(having) > 1:
            parts = (f"{text or 'none'} on {', '.join(names)}" for text, names in having.items())
            found.append(f"{key} differs: {'; '.join(parts)}")
    return found


async def ask_all(settings: Settings) -> list[Member]:
    """Ask the servers of ``[fleet]`` for their status, all at once, in at most ``TIMEOUT_S``."""
    token = settings.fleet_token or settings.admin_token
    headers = {"Accept-Encoding": "identity"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token.get_secret_value()}"
    path = settings.resolve(name) if (name := settings.fleet.ca_file) is not None else None
    try:
        # Read at each time, as it may be renewed; in a thread, as the disk may be slow.
        context = await run_in_thread(lambda: tls_context(path), "pexpolicy-fleet")
    except SettingsError as error:
        return [Member(url, silent=f"fleet.{error}") for url in settings.fleet.servers]
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=0),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        headers=headers,
        auto_decompress=False,
    ) as session:
        return await asyncio.gather(*(_ask(session, url) for url in settings.fleet.servers))


async def _ask(session: aiohttp.ClientSession, url: str) -> Member:
    body = b""
    try:
        # A redirect would take the token elsewhere.
        async with session.get(f"{url}/status", allow_redirects=False) as reply:
            while reply.status == HTTPStatus.OK and len(body) <= MAX_BYTES:
                if not (chunk := await reply.content.readany()):
                    return member_of(url, body)
                body += chunk
        why = f"it answers {reply.status}" + f" with more than {MAX_BYTES} bytes" * bool(body)
    except TimeoutError:
        why = f"no answer within {TIMEOUT_S:.3g} s"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        why = describe_network_error(error.__cause__ or error)
    return Member(url, silent=why)


def document_of(members: Sequence[Member], expected: str | None = None) -> dict[str, Any]:
    """Return the document of ``/fleet``."""
    return {"servers": [*map(asdict, members)], "differences": differences(members, expected)}
