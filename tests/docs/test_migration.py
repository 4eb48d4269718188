"""The page docs/migration.md, followed on the samples from top to bottom."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from click.testing import CliRunner, Result
from multidict import MultiDict

from pexpolicy import ServiceConfigurationRequest
from pexpolicy.builder import policy_from
from pexpolicy.cli.main import main
from pexpolicy.matching import Pattern
from pexpolicy_importers import policy_router
from pexpolicy_importers.policy_router import searched
from tests.support import doc_pages
from tests.support.paths import ROOT
from tests.support.waiting import HANG_S

PAGE = ROOT / "docs" / "migration.md"
SAMPLES = ROOT / "examples" / "migration"


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONUTF8": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "pexpolicy", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANG_S,
        check=False,
    )


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


def test_the_guide_leads_to_the_configuration_with_the_documented_hash(
    migrated: tuple[Path, list[tuple[str, str]]],
) -> None:
    printed, expected_output = migrated[1][-1]
    assert doc_pages.config_hashes(printed) == doc_pages.config_hashes(expected_output) != []


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


def test_what_is_printed_for_the_plugin_upstream_is_toml() -> None:
    printed: Any = tomllib.loads(
        policy_router.upstream_tables(policy_router.read_router(SAMPLES / "router.csv"))
    )
    settings = printed["plugins"]["upstream"]["settings"]
    assert settings["targets"] == {"server1": {"url": "https://scheduling.example.com"}}
    assert [route["targets"] for route in settings["routes"]] == [["server1"]]


HEAD = "name,regex,is_active,service_target_url,always_continue_service,override_service_response"


def import_router(folder: Path) -> Result:
    arguments = ["import", "router", str(folder / "r.csv"), "--into", str(folder / "rules.toml")]
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("true,ftp://h/x,,", "service_target_url: write a whole URL"),
        ("true,not a url,,", "service_target_url: write a whole URL"),
        ('true,,true,"{""action"": ""rejct""}"', "override_service_response has the action"),
        ('true,,true,"{""action"": ""redirect""}"', "override_service_response has the action"),
        (
            'true,,true,"{""result"": {""a"": 1}}"',
            "override_service_response: status = None",
        ),
        ("true,https://hunter2@h,,", "service_target_url: credentials are never in this"),
    ],
)
def test_what_cannot_work_is_refused_with_its_line(
    tmp_path: Path, cells: str, expected: str
) -> None:
    (tmp_path / "r.csv").write_text(f"{HEAD}\na,^a$,{cells}\n")
    refused = import_router(tmp_path)
    assert refused.exit_code == 65
    assert f"r.csv line 2: {expected}" in refused.stderr
    assert "hunter2" not in refused.stderr
    assert not (tmp_path / "rules.toml").exists()


def test_what_was_switched_off_may_lead_anywhere(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(f"{HEAD}\na,^a$,false,ftp://h/x,,\n")
    assert import_router(tmp_path).exit_code == 0


def test_a_redirect_stays_a_redirect(tmp_path: Path) -> None:
    sent = '{"status": "success", "action": "redirect", "result": {"new_alias": "sip:a@b.example"}}'
    reply = sent.replace('"', '""')
    (tmp_path / "r.csv").write_text(f'{HEAD}\na,^a$,true,,true,"{reply}"\n')
    assert import_router(tmp_path).exit_code == 0
    (rule,) = tomllib.loads((tmp_path / "rules.toml").read_text())["rules"]
    assert rule["then"] == {"action": "redirect", "new_alias": "sip:a@b.example"}


@pytest.mark.parametrize(
    ("regex", "texts"),
    [
        ("^a", ["a", "ab", "ba", "A"]),
        ("a$", ["a", "ab", "ba"]),
        ("^a$", ["a", "ab", "ba"]),
        ("a", ["a", "bab", "b"]),
        ("^a|b$", ["ax", "xb", "xay", "b"]),
        ("^(a|b)$", ["a", "b", "ab"]),
        ("", ["", "a"]),
        (".*", ["", "a"]),
        ("a\\$", ["a$", "xa$x", "a"]),
        ("^a(?:b|c)?", ["a", "ac", "xa"]),
    ],
)
def test_an_expression_finds_what_it_found(regex: str, texts: list[str]) -> None:
    pattern = Pattern(searched(regex), case_sensitive=True)
    for text in texts:
        assert pattern.matches(text) is (re.search(regex, text) is not None), (regex, text)
