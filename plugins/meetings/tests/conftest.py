"""Two servers with the plugin, which share one PostgreSQL, or the SQLite of two workers."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.policy import BuildContext
from pexpolicy_meetings.settings import MeetingsSettings, TenantOf, known_tenants
from tests.support import installed, postgresql
from tests.support.booked import TENANTS, Servers


@pytest.fixture
def acme() -> TenantOf:
    return known_tenants(MeetingsSettings(tenants=TENANTS))[1]["acme"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgresql.Server]:
    with postgresql.Server.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Returns a context with two servers."""
    shared: dict[str, Any] = {}
    settings: dict[str, Any] = {"tenants": TENANTS}
    if request.param == "postgresql":
        server: postgresql.Server = request.getfixturevalue("postgres")
        server.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        (tmp_path / "password").write_text(postgresql.PASSWORD)
        (tmp_path / "key").write_text("0123456789abcdef" * 4)
        shared = {"driver": "postgresql", "url": server.url, "password_file": "password"}
        settings["key_file"] = "key"

    @asynccontextmanager
    async def started(
        plugins: dict[str, Any] | None = None, tables: dict[str, Any] | None = None, **more: Any
    ) -> AsyncIterator[Servers]:
        meetings = {"settings": {**settings, **more}, "on_error": "reject"}
        document = {
            "shared": {"timeout": 4.5, **shared},
            "plugins": {"meetings": meetings, **(plugins or {})},
            **(tables or {}),
        }
        checked = from_document(document, tmp_path / "config.toml")
        servers = Servers()
        context = BuildContext(wall_clock=lambda: servers.now)
        available = installed.plugins()
        servers.policies = [
            build_policy(checked, available=available, context=context) for _ in range(2)
        ]
        async with AsyncExitStack() as stack:
            for policy in servers.policies:
                await stack.enter_async_context(policy.serving(in_server=True))
            yield servers

    return started
