"""The configuration of the README with initials for the time when a source is down."""

from pathlib import Path

from pexpolicy.testing import make_policy
from tests.support import doc_pages, paths
from tests.support.avatars import Asker, picture


async def test_an_instance_with_initials_answers_while_the_folder_is_missing(
    tmp_path: Path,
) -> None:
    page = paths.ROOT / "plugins" / "avatars" / "README.md"
    text = next(text for _, text in doc_pages.blocks(page) if "[plugins.initials]" in text)
    (tmp_path / "config.toml").write_text(text)
    policy = make_policy(tmp_path / "config.toml")
    async with policy.serving():
        ask = Asker(policy)
        outcome = await ask("anna@example.com")
        assert outcome.decided_by == "initials"
        assert [step.outcome for step in outcome.steps] == ["failed", "decided"]
        folder = tmp_path / "pictures"
        folder.mkdir()
        (folder / "anna.jpg").write_bytes(picture())
        assert (await ask("anna@example.com")).decided_by == "avatars"
        assert (await ask("bob@example.com")).decided_by == "initials"
