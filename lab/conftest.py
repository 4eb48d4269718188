"""Fixtures of experiments, and the hooks of all tests."""

from tests.conftest import (
    pytest_runtest_makereport,
    pytest_sessionfinish,
    pytest_unconfigure,
    running_server,
    serving,
)

__all__ = [
    "pytest_runtest_makereport",
    "pytest_sessionfinish",
    "pytest_unconfigure",
    "running_server",
    "serving",
]
