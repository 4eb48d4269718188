"""Two servers with the plugin, which share one PostgreSQL, or the SQLite of two workers."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.config.loader import from_document
from pexpolicy.policy import BuildContext
from pexpolicy_meetings.settings import MeetingsSettings, TenantOf, known_tenants
from tests.support import installed
from tests.support.booked import TENANTS, Servers
from tests.support.meetings_api import Site, serving


@pytest.fixture
def acme() -> TenantOf:
    return known_tenants(MeetingsSettings(tenants=TENANTS))[1]["acme"]


@pytest.fixture
def start(shared: dict[str, Any], tmp_path: Path) -> Callable[..., Any]:
    """Returns a context with two servers."""
    settings: dict[str, Any] = {"tenants": TENANTS}
    if shared:
        (tmp_path / "key").write_text("0123456789abcdef" * 4)
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
        async with installed.serving_twice(checked, context) as servers.policies:
            yield servers

    return started


@pytest.fixture
async def site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: dict[str, Any]
) -> AsyncIterator[Site]:
    async with serving(tmp_path, monkeypatch, shared) as made:
        yield made


@pytest.fixture
async def counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: dict[str, Any]
) -> AsyncIterator[Site]:
    """The servers with the plugins that count people."""
    acme = {"tag": "t=acme", "participants": {"hard": 2}}
    others: Any = {"live": {}, "limits": {"settings": {"tenants": {"acme": acme}}}}
    async with serving(tmp_path, monkeypatch, shared, **others) as made:
        yield made
