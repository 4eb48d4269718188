"""A short run of ``make chaos-upstreams``: its instruments, and a few of its targets."""

from pathlib import Path

from lab.upstreams.broken import KINDS
from lab.upstreams.chaos import TIMEOUT, server_with_targets

NAMES = ("never answers", "answers five megabytes", "sends a gzip bomb", "calls HTML JSON")


async def test_a_server_under_load_stays_sound_with_broken_targets(tmp_path: Path) -> None:
    kinds = [kind for kind in KINDS if kind.name in NAMES]
    assert len(kinds) == len(NAMES)
    async with server_with_targets(kinds, tmp_path) as server:
        before = server.descriptors
        found = await server.load("a few", kinds, each=2, others=3, seconds=0.6, pause=0.02)
        after = server.descriptors
    assert found.wrong == []
    assert found.needing > len(kinds)
    assert found.others > 0
    assert found.needing_longest > TIMEOUT
    # The connections of the load, and the reused ones to targets.
    assert after - before < 20
