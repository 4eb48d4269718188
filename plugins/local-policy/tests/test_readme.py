"""What the README shows: its commands, its configuration, and its figures."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from pexpolicy.testing import client
from pexpolicy_local_policy.command import EX_DATAERR
from pexpolicy_local_policy.command import local_policy as group
from pexpolicy_local_policy.plugin import LocalPolicySettings
from pexpolicy_local_policy.variables import VARIABLES
from pexpolicy_local_policy.worker import MAX_OUTPUT, MEMORY
from tests.support import doc_pages
from tests.support.local_policy import CALL, PASS, ROOM, write_json

README = Path(__file__).parents[1] / "README.md"
PAGE = README.read_text()
CASES, PLUGIN = (text for language, text in doc_pages.blocks(README) if language == "toml")
WAIVE = """{
  {% if service_config %}
    "action": "continue", "result": {{ service_config|pex_update({"pin": ""})|pex_to_json }}
  {% else %}
    "action": "reject", "result": {}
  {% endif %}
}"""
CASE = "[[case]]\nname = 'a'\nexpect = { action = 'reject' }\n"
RULE = """
[[plugins.rules.settings.rules]]
name = "Mallory"
endpoint = "service_configuration"
when = { remote_alias = "mallory@example.net" }
then = "reject"
"""
COMMANDS: Sequence[str] = re.findall(r"`pexpolicy ([^`]* [^`]*)`", PAGE)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "SCRIPT").write_text(PASS)
    (tmp_path / "service.jinja2").write_text(PASS)
    room = '[plugins.rooms.settings.rooms.meet07]\nname = "Meeting 07"\n'
    (tmp_path / "config.toml").write_text(room)
    monkeypatch.chdir(tmp_path)


def written(command: str) -> None:
    """Write the files that a command of the page names."""
    profile = {"name": "Oslo", "internal_service_policy_template": PASS}
    given = {"call_info": CALL, "service_config": ROOM}
    content = {"import": {"objects": [profile]}, "replay": ROOM}
    write_json(Path("FILE"), content.get(command, given))
    if command == "lint":
        Path("FILE").write_text('[infinity]\nthemes = ["Summer"]\n')
    if command == "replay":
        Path("RECORDS").write_text("/policy/v1/service/configuration?local_alias=meet07\n")
    if command == "test":
        Path("CASES").write_text(f"script = 'SCRIPT'\n{CASE}")
    if command == "export":
        Path("config.toml").write_text(RULE)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_runs(command: str) -> None:
    words = shlex.split(command.replace("KIND", "service"))
    written(words[1] if words[0] == "local-policy" else words[0])
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    if "import" in words:
        assert Path("oslo-service.jinja2").read_text() == PASS


def test_every_command_is_listed() -> None:
    listed = {words[1] for words in map(str.split, COMMANDS) if words[0] == "local-policy"}
    assert listed == set(group.commands)


@pytest.fixture
def configuration() -> Path:
    path = Path("config.toml")
    path.write_text(PLUGIN)
    Path("service.jinja2").write_text('{"action": "reject", "result": {}}')
    return path


async def test_the_configuration_runs_its_script(configuration: Path) -> None:
    async with client(configuration) as http:
        reply = await http.get("/policy/v1/service/configuration?local_alias=a")
        assert json.loads(await reply.read())["action"] == "reject"


def test_every_setting_is_explained_with_its_default() -> None:
    explained = {
        name: row[1]
        for row in doc_pages.rows(README)
        for name in row[0].split(", ")
        if name in LocalPolicySettings.model_fields
    }
    assert explained.keys() == LocalPolicySettings.model_fields.keys()
    for name, default in explained.items():
        field = LocalPolicySettings.model_fields[name].default
        assert default.strip("`").title() == str(field)


def test_kinds_and_figures_are_those_of_the_code() -> None:
    assert all(f"`{kind}`" in PAGE for kind in VARIABLES)
    assert f"{EX_DATAERR}: it would drop it" in PAGE
    assert f"{MEMORY >> 20} MiB of memory and {MAX_OUTPUT:,} characters" in PAGE


def test_the_cases_pass() -> None:
    Path("service.jinja2").write_text(WAIVE)
    Path("cases.toml").write_text(CASES)
    done = CliRunner().invoke(main, ["local-policy", "test", "cases.toml"])
    assert done.exit_code == 0, done.output
