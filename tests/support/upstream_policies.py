"""Policies with the plugin ``upstream``, built as a server builds them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.policy import BuildContext, Policy
from tests.support import fake_plugins, upstream_servers

Tables = Mapping[str, Any]


def settings_of(
    targets: Mapping[str, str | Tables], routes: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The plugin's own settings; a target may be its URL alone."""
    written = {n: {"url": t} if isinstance(t, str) else dict(t) for n, t in targets.items()}
    return {"targets": written, **({"routes": routes} if routes else {})}


def policy(
    targets: Mapping[str, str | Tables],
    routes: list[dict[str, Any]] | None = None,
    *,
    timeout: float = 3.0,
    isolation: str = "none",
    root: Path = Path(),
    log: fake_plugins.Log | None = None,
    **tables: Any,
) -> Policy:
    """The policy of these targets and routes; further tables of the configuration by name."""
    apart = {"isolation": isolation, "processes": 1}
    plugin = {"timeout": timeout, **apart, "settings": settings_of(targets, routes)}
    document = {"plugins": {"upstream": plugin}, **tables}
    return build_policy(
        from_document(document, root / "config.toml"), context=BuildContext(log=log)
    )


def status_of(made: Policy) -> Any:
    """What the plugin says of itself."""
    instance: Any = made.plugins[0].instance
    return instance.status()


@asynccontextmanager
async def relaying(
    serving: fake_plugins.Serve,
    content: bytes,
    routes: list[dict[str, Any]] | None = None,
    *,
    name: str = "target",
) -> AsyncIterator[tuple[fake_plugins.Serving, upstream_servers.Upstream]]:
    """Yield a server, and the only target that it asks, which always replies with ``content``."""
    answer = upstream_servers.always(content)
    async with (
        upstream_servers.answering(answer) as target,
        serving(policy({name: target.url}, routes)) as server,
    ):
        yield server, target
