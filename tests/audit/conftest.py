"""A journal in the folder of a test."""

from pathlib import Path

import pytest

from tests.audit.places import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
