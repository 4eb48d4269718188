"""The experiment on sources that fail, with short phases."""

from pathlib import Path

import pytest

from lab import sources
from tests.support import programs

pytestmark = programs.needs_compiled("python-ldap")


@pytest.mark.parametrize("name", ["PostgreSQL", "slapd"])
async def test_a_frozen_and_killed_server(tmp_path: Path, name: str) -> None:
    found = await sources.run(tmp_path, max_age=2.0, reloads=5, watched=2.0, names=(name,))
    assert found.wrong == []
