"""``pexpolicy explain --local-policy``: our answer, and what the script of the node makes of it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pexpolicy.cli.main import main
from tests.support.local_policy import PASS, ROOM, write_json

CONFIG = """
[plugins.rooms.settings.rooms.meet07]
name = "Meeting 07"
pin = "482913"
"""
WAIVE = """{
  {% if service_config and call_info.registered %}
    "action": "continue",
    "result": {{ service_config|pex_update({"pin": "", "allow_guests": false})|pex_to_json }}
  {% elif service_config %}
    "action": "continue", "result": {{ service_config|pex_to_json }}
  {% else %}
    "action": "reject", "result": {}
  {% endif %}
}"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "pass.jinja2").write_text(PASS)
    (tmp_path / "waive.jinja2").write_text(WAIVE)
    write_json(tmp_path / "own.json", ROOM)
    (tmp_path / "no.json").write_text("{{ no }}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def explained(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments], catch_exceptions=False)


def test_the_script_follows_our_answer(folder: Path) -> None:
    done = explained("meet07", "--set", "registered=True", "--local-policy", "waive.jinja2")
    assert done.exit_code == 0
    ours, _, after = done.stdout.partition("local policy waive.jinja2\n")
    assert '"decided_by":"rooms"' in ours
    assert "applied: continue, changes pin (removed), allow_guests" in after
    assert "482913" not in done.stdout


def test_a_result_that_is_empty_replaces_our_service(folder: Path) -> None:
    (folder / "empty.jinja2").write_text('{"action": "continue", "result": {}}')
    done = explained("meet07", "--local-policy", "empty.jinja2")
    assert "continue without a result, which leaves the call to Infinity" in done.stdout
    done = explained("lobby", "--local-policy", "empty.jinja2")
    assert "applied: continue, and nothing is changed" in done.stdout


def test_json_has_both(folder: Path) -> None:
    done = explained(
        *("meet07", "--set", "registered=True", "--local-policy", "waive.jinja2"),
        *("--json", "--show-secrets"),
    )
    after = json.loads(done.stdout)["local_policy"]
    assert after["script"] == "waive.jinja2"
    assert after["applied"] is True
    assert after["changed"] == ["pin", "allow_guests"]
    assert after["result"]["pin"] == ""


def test_what_infinity_has_itself_comes_from_a_file(folder: Path) -> None:
    unknown = explained("lobby", "--local-policy", "pass.jinja2")
    assert "not known: line 2: it reads service_config" in unknown.stdout
    assert "add a JSON file" in " ".join(unknown.stdout.split())
    known = explained("lobby", "--local-policy", "pass.jinja2", "--local-policy", "own.json")
    assert "applied: continue, with the same fields" in known.stdout
    assert ROOM["pin"] not in known.stdout


@pytest.mark.parametrize(
    "script",
    [
        '{{ {"action": "continue", "result": service_config}|pex_to_json }}',
        (
            '{"action": "continue",'
            ' "result": {{ {"pin": ""}|pex_update(service_config)|pex_to_json }}}'
        ),
    ],
)
def test_what_only_the_node_knows_may_be_inside_of_an_object(folder: Path, script: str) -> None:
    (folder / "inside.jinja2").write_text(script)
    unknown = explained("lobby", "--local-policy", "inside.jinja2")
    assert "not known: line 1: it reads service_config" in unknown.stdout
    done = explained("meet07", "--local-policy", "inside.jinja2")
    assert "applied: continue, with the same fields" in done.stdout


def test_the_disposition_of_external_policy_is_told(folder: Path) -> None:
    (folder / "told.jinja2").write_text(
        '{"action": "continue", "result": {"service_type": "conference", "service_tag": "",'
        ' "name": "{{ call_info.external_policy_disposition }}"}}'
    )
    (folder / "config.toml").write_text('[endpoints.service_configuration]\ndefault = "reject"\n')
    done = explained("lobby", "--local-policy", "told.jinja2", "--json")
    after = json.loads(done.stdout)["local_policy"]
    assert after["result"]["name"] == "REJECT"
    assert after["action"] == "continue"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--local-policy", "absent.jinja2"], "absent.jinja2: cannot be read"),
        (["--local-policy", "own.json"], "name a script"),
        (["--local-policy", "pass.jinja2", "--local-policy", "no.json"], "is not JSON"),
    ],
)
def test_mistakes_exit_with_2(folder: Path, arguments: list[str], reason: str) -> None:
    done = explained("meet07", *arguments)
    assert done.exit_code == 2
    assert reason in done.stderr


def test_a_value_of_infinity_that_is_listed_may_be_in_both(folder: Path) -> None:
    (folder / "config.toml").write_text(
        '[infinity.extra_values]\noutgoing_protocol = ["zoom"]\n'
        '[plugins.rooms.settings.rooms.meet07]\nservice_type = "gateway"\nname = "Out"\n'
        'local_alias = "a"\nremote_alias = "b"\noutgoing_protocol = "zoom"\n'
    )
    (folder / "named.jinja2").write_text(
        '{"action": "continue", "result":'
        ' {{ service_config|pex_update({"name": "Other"})|pex_to_json }}}'
    )
    done = explained("meet07", "--local-policy", "named.jinja2", "--json")
    after = json.loads(done.stdout)["local_policy"]
    assert after["changed"] == ["name"], after
    assert after["result"]["outgoing_protocol"] == "zoom"
