"""Shared fixtures."""

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.policy import Policy
from pexpolicy.server.http import listener
from tests.support import fake_plugins, live_server, programs, secret_canaries


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that leaked a secret into its output or a file."""
    report = yield
    leaks = [
        f"{name} contains {token}"
        for name, text in report.sections
        for token in secret_canaries.find_canaries(text)
    ]
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if report.when == "teardown" and folder is not None:
        leaks += secret_canaries.find_leaks(folder)
    if leaks:
        report.outcome = "failed"
        report.longrepr = "a secret leaked: " + "; ".join(leaks)
    return report


_LEFT_OUT = pytest.StashKey[str]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run of CI that left tests out because a program is not installed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    missing = programs.left_out(reporter.stats.get("skipped", ())) if reporter else None
    if missing:
        session.config.stash[_LEFT_OUT] = programs.summary(missing)
        if os.environ.get("CI"):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    """Name what was left out, in the last lines."""
    if text := config.stash.get(_LEFT_OUT, ""):
        print(text)  # noqa: T201


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live_server.Running]:
    """Start the server with the shipped configuration by its command line."""
    folder = tmp_path_factory.mktemp("server")
    with live_server.running(live_server.with_audit(live_server.SHIPPED, folder)) as server:
        yield server
    assert not list(secret_canaries.find_leaks(folder))


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fake_plugins.Serve:
    """Return a function that serves a policy, or plugin classes; it accepts silent clients too."""
    monkeypatch.setattr(listener, "DEFER_S", 0)

    def serve(
        classes: Policy | Mapping[str, type],
        tables: Mapping[str, Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> AbstractAsyncContextManager[fake_plugins.Serving]:
        log, limits = fake_plugins.Log(), options.pop("limits", None)
        if isinstance(classes, Policy):
            return fake_plugins.serve(classes, tmp_path / "audit.jsonl", log, limits)
        # No watchdog on a test's own clock, because it would wake the loop continuously.
        made = fake_plugins.policy(
            classes, tables, log=None if "clock" in options else log, **options
        )
        return fake_plugins.serve(made, tmp_path / "audit.jsonl", log, limits)

    return serve
