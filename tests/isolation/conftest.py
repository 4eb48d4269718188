"""A folder of plugins that worker processes can import."""

from pathlib import Path

import pytest

from tests.support.isolated import PluginFolder


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PluginFolder:
    monkeypatch.syspath_prepend(tmp_path)
    return PluginFolder(tmp_path)
