"""The page docs/migration.md, followed on the samples from top to bottom."""

import os
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from multidict import MultiDict

from pexpolicy import ServiceConfigurationRequest
from pexpolicy.builder import policy_from
from tests.support import doc_pages, forked
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "migration.md"
SAMPLES = ROOT / "examples" / "migration"


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "200"}
    return forked.run(*arguments, cwd=folder, env=environment, merged=True)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, str]]]:
    """Follow the guide; return the folder, and the actual and expected output of each command."""
    folder = tmp_path_factory.mktemp("moved")
    for sample in SAMPLES.iterdir():
        shutil.copy(sample, folder)
    outputs = []
    for (language, text), (_, output) in pairwise([*doc_pages.blocks(PAGE), ("", "")]):
        if language == "sh":
            printed = command(folder, *shlex.split(text)[1:]).stdout
            outputs.append((printed, output))
        elif language == "toml":
            with (folder / "config.toml").open("a") as file:
                file.write(f"\n{text}")
    return folder, outputs


def test_each_command_prints_the_documented_output(
    migrated: tuple[Path, list[tuple[str, str]]],
) -> None:
    assert len(migrated[1]) == 4
    for printed, expected_output in migrated[1]:
        lines = doc_pages.normalize(printed).splitlines()
        assert sorted(lines) == sorted(doc_pages.normalize(expected_output).splitlines())


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("local_alias=sip:engineering@example.com", '"name":"Engineering Room"'),
        ("local_alias=board@example.com", '"pin":"482913"'),
        ("local_alias=probe1@example.com&protocol=sip&call_direction=dial_in", '"reject"'),
        ("local_alias=lobby", '"name":"Lobby"'),
        ("local_alias=sip:vmr-123@example.com", '"decided_by":"default"'),
        ("local_alias=legacy-1", '"decided_by":"rules","reason":"rule Left to Infinity"'),
        ("local_alias=old-1", '"decided_by":"default"'),
    ],
)
async def test_the_imported_policy_decides_as_the_old_server(
    migrated: tuple[Path, list[tuple[str, str]]], query: str, expected: str
) -> None:
    policy = policy_from(migrated[0] / "config.toml")
    async with policy.serving():
        request = ServiceConfigurationRequest(MultiDict(parse_qsl(query)))
        answer = await policy.answer(request, "id")
    assert expected in answer.reply.body.decode()


def test_a_second_time_changes_nothing(migrated: tuple[Path, list[tuple[str, str]]]) -> None:
    folder = migrated[0]
    before = {name: (folder / name).read_bytes() for name in ("config.toml", "rules.toml")}
    for what, sample in (
        ("rooms", "policy_settings.py"),
        ("domains", "policy_settings.py"),
        ("router", "router.csv"),
    ):
        result = command(folder, "import", what, sample)
        assert result.returncode == 0
        assert " unchanged" in result.stdout
    assert before == {name: (folder / name).read_bytes() for name in before}
