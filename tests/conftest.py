"""Fixtures that several modules share."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.policy import Policy
from tests import live, toys


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Running]:
    """The server with the shipped configuration, started by its command line."""
    folder = tmp_path_factory.mktemp("server")
    with live.running(live.with_audit(live.SHIPPED, folder)) as server:
        yield server


@pytest.fixture
def serving(tmp_path: Path) -> toys.Serve:
    """Serves a policy made of plugin classes, or a policy that exists already."""

    def serve(
        classes: Policy | Mapping[str, type],
        tables: Mapping[str, Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> AbstractAsyncContextManager[toys.Serving]:
        log = toys.Log()
        if isinstance(classes, Policy):
            return toys.serve(classes, tmp_path / "audit.jsonl", log)
        made = toys.policy(classes, tables, log=log, **options)
        return toys.serve(made, tmp_path / "audit.jsonl", log)

    return serve
