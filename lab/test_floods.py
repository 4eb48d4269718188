"""Each flood in a short version."""

from pathlib import Path

import pytest

from lab import floods

WITHOUT_AUTH = ("silent", "half-sent", "refused")


@pytest.mark.parametrize(
    ("kind", "auth"),
    [*((kind, True) for kind in floods.KINDS), *((kind, False) for kind in WITHOUT_AUTH)],
)
async def test_a_flood_costs_nodes_no_call(tmp_path: Path, kind: str, auth: bool) -> None:
    clients = max(2, floods.KINDS[kind].clients // 2)
    found = await floods.run(tmp_path, kind, clients, 1.0, auth=auth)
    assert found.wrong == []
