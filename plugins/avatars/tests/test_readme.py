"""What the README shows: initials while a source is down, and what `explain` prints."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from pexpolicy.testing import make_policy
from tests.support import doc_pages, paths, wire
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


@pytest.mark.parametrize(
    ("alias", "note"),
    [
        ("bob@example.com", "folder has no picture"),
        ("anna@example.com", "folder has a picture of "),
        ("anna@elsewhere.example", "elsewhere.example is not among domains"),
    ],
)
def test_explain_shows_what_the_sources_had(tmp_path: Path, alias: str, note: str) -> None:
    (tmp_path / "config.toml").write_text(
        '[plugins.avatars.settings]\nfolder = "pictures"\ndomains = ["example.com"]\n'
    )
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "anna.jpg").write_bytes(picture())
    arguments = ["explain", "--config", str(tmp_path / "config.toml"), f"{wire.AVATAR}{alias}"]
    assert note in CliRunner().invoke(main, arguments).output
