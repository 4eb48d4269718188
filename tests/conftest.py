"""Fixtures that several modules share."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from pexpolicy.policy import Policy
from tests.support import fake_plugins, live_server, secret_canaries

# The machine may be busy: how long an example takes says nothing.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that let a secret out: into what was printed, or into a file."""
    report = yield
    out = [
        f"{name} holds {token}"
        for name, text in report.sections
        for token in secret_canaries.find_canaries(text)
    ]
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if report.when == "teardown" and folder is not None:
        out += secret_canaries.find_leaks(folder)
    if out:
        report.outcome = "failed"
        report.longrepr = "a secret got out: " + "; ".join(out)
    return report


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live_server.Running]:
    """The server with the shipped configuration, started by its command line."""
    folder = tmp_path_factory.mktemp("server")
    with live_server.running(live_server.with_audit(live_server.SHIPPED, folder)) as server:
        yield server
    assert not list(secret_canaries.find_leaks(folder))


@pytest.fixture
def serving(tmp_path: Path) -> fake_plugins.Serve:
    """Serves a policy made of plugin classes, or a policy that exists already."""

    def serve(
        classes: Policy | Mapping[str, type],
        tables: Mapping[str, Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> AbstractAsyncContextManager[fake_plugins.Serving]:
        log = fake_plugins.Log()
        if isinstance(classes, Policy):
            return fake_plugins.serve(classes, tmp_path / "audit.jsonl", log)
        # On a clock of the test's own nobody watches the loop: it would wake it all the time.
        made = fake_plugins.policy(
            classes, tables, log=None if "clock" in options else log, **options
        )
        return fake_plugins.serve(made, tmp_path / "audit.jsonl", log)

    return serve
