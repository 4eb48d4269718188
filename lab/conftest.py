"""Fixtures of experiments, and the hooks of all tests."""

import pytest

from lab import load
from lab.report import Finding
from tests.conftest import (
    pytest_runtest_makereport,
    pytest_sessionfinish,
    pytest_unconfigure,
    running_server,
    serving,
)
from tests.support.waiting import HANG_S

__all__ = [
    "pytest_runtest_makereport",
    "pytest_sessionfinish",
    "pytest_unconfigure",
    "running_server",
    "serving",
]


@pytest.fixture(autouse=True)
def _judge_no_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the long versions have the machine for themselves."""
    monkeypatch.setattr(Finding, "is_timed", False)
    monkeypatch.setattr(load, "CALL_TIMEOUT_S", HANG_S)
    monkeypatch.setattr(load, "LATE_S", HANG_S)
