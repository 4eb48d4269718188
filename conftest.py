"""Settings of Hypothesis and of the garbage collector for all tests, and their PostgreSQL."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import postgresql

# The machine may be busy, so the duration of an example is no criterion. A fifth of the usual
# number of examples keeps a run of all tests short; lab/ has those of hours.
hypothesis.settings.register_profile(
    "suite",
    max_examples=20,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("suite")

# With the thresholds of Python, collections take a tenth of the processor time of a run: ten
# thousand tests are objects, too.
gc.set_threshold(20_000, 20, 20)
# What is collected stays to the end.
gc.disable()


def pytest_collection_finish() -> None:
    """Let the garbage collector run once all tests are collected, without looking at them."""
    gc.freeze()
    gc.enable()


def pytest_runtest_logfinish() -> None:
    """Let the garbage collector free the cycles of all tests.

    A command that a test runs in this process exempts the objects that there are from collections,
    and ``serve`` disables them until it serves.
    """
    gc.unfreeze()
    gc.enable()


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgresql.Server]:
    """A server for all tests."""
    with postgresql.Server.running() as server:
        yield server


@pytest.fixture
def empty_postgres(postgres: postgresql.Server) -> postgresql.Server:
    """That server without tables."""
    postgres.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> postgresql.Server | None:
    """The place of shared state: a database without tables, or ``None`` for SQLite."""
    if request.param == "sqlite":
        return None
    server: postgresql.Server = request.getfixturevalue("empty_postgres")
    return server


@pytest.fixture
def shared(engine: postgresql.Server | None, tmp_path: Path) -> dict[str, Any]:
    """The table ``[shared]``, with an empty database."""
    if engine is None:
        return {}
    (tmp_path / "password").write_text(postgresql.PASSWORD)
    return {"driver": "postgresql", "url": engine.url, "password_file": "password"}
