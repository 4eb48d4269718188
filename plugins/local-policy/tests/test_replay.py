"""``pexpolicy replay --local-policy``: what a script of the node changes of recorded calls."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pexpolicy.cli.main import main
from pexpolicy_local_policy.node_policy import names_in
from tests.replay import audits
from tests.replay.test_sides import foreign_server
from tests.support import wire
from tests.support.local_policy import NOON, PASS, ROOM, write_json

AT = datetime.fromtimestamp(NOON, UTC)
ROOMS = """
[plugins.rooms.settings.rooms.meet07]
name = "Meeting 07"
pin = "482913"
[plugins.locations.settings]
default = "Oslo"
default_overflow = ["Bergen"]
"""
WAIVE = """{
  "action": "continue",
  {% if service_config and call_info.registered %}
    "result": {{ service_config|pex_update({"pin": ""})|pex_to_json }}
  {% elif service_config %}
    "result": {{ service_config|pex_to_json }}
  {% else %}
    "result": {}
  {% endif %}
}"""
MOVE = '{"result": {"location": "{{ pex_now().hour }}", "overflow_locations": []}}'
SERVICE = {"name": "Meeting 07", "service_tag": "", "service_type": "conference"}
REGISTERED = f"{wire.SERVICE}?local_alias=meet07&registered=True"
OTHER = f"{wire.SERVICE}?local_alias=meet07"
OWN = f"{wire.SERVICE}?local_alias=lobby"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "config.toml").write_text(ROOMS)
    (tmp_path / "next.toml").write_text(ROOMS.replace("482913", "482914"))
    (tmp_path / "waive.jinja2").write_text(WAIVE)
    (tmp_path / "urls").write_text(f"{REGISTERED}\n{OTHER}\n{OTHER}\n{OWN}\n{wire.LOCATION}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def replayed(*arguments: str, code: int = 0) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == code, done.output
    assert "48291" not in done.output
    return json.loads(done.stdout)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["replay", *arguments], catch_exceptions=False)


def test_a_change_that_the_script_undoes_is_none(folder: Path) -> None:
    both = ("urls", "--config", "next.toml", "--against", "config.toml")
    script = ("--local-policy", "waive.jinja2")
    assert replayed(*both, code=1)["changed"] == 3
    found = replayed(*both, *script, code=1)
    assert (found["same"], found["changed"]) == (2, 2)
    (unknown,) = found["reasons"]
    assert unknown["class"] == "not_replayable"
    assert "add a JSON file with the service of Infinity" in unknown["reason"]
    write_json(folder / "own.json", ROOM)
    known = replayed(*both, *script, "--local-policy", "own.json", code=1)
    assert (known["same"], known["changed"]) == (3, 2)
    verdicts = {row["verdict"]: row["count"] for row in known["local_policy"]}
    assert verdicts["waive.jinja2: applied: continue, changes pin (removed)"] == 1


@pytest.mark.parametrize(
    ("reply", "changed"),
    [
        ({"action": "continue", "result": {**SERVICE, "pin": "482915"}}, 0),
        ({"action": "continue", "result": {**SERVICE, "name": "Another"}}, 1),
        ({"action": "reject"}, 1),
        ({"action": "continue"}, 1),
    ],
)
def test_the_replies_of_a_server_are_followed_too(
    folder: Path, reply: dict[str, Any], changed: int
) -> None:
    (folder / "urls").write_text(f"{REGISTERED}\n")
    write_json(folder / "own.json", ROOM)
    body = json.dumps({"status": "success", **reply}).encode()
    with foreign_server(body) as url:
        both = ("urls", "--config", "config.toml", "--against", url)
        script = ("--local-policy", "waive.jinja2", "--local-policy", "own.json")
        assert replayed(*both, code=1)["changed"] == 1
        found = replayed(*both, *script, code=changed)
    assert (found["same"], found["changed"]) == (1 - changed, changed)


def test_what_the_script_changes_of_what_was_sent(folder: Path) -> None:
    calls = [
        ("service_configuration", "", [("local_alias", "meet07"), ("registered", "True")], AT),
        ("service_configuration", "", [("local_alias", "meet07")], AT),
        ("media_location", "", [("remote_address", "10.1.2.3")], AT),
    ]
    audit = audits.written(folder / "config.toml", calls, folder / "audit.jsonl")
    (folder / "move.jinja2").write_text(MOVE)
    scripts = ("--local-policy", "waive.jinja2", "--local-policy", "media_location=move.jinja2")
    found = replayed(str(audit), "--config", "config.toml", *scripts, code=1)
    changes = [group["example"]["changes"] for group in found["groups"]]
    assert {"from": "Oslo", "to": "12"} in [change.get("location") for change in changes]
    assert not any("overflow_locations" in change for change in changes)
    assert {group["to"]["reason"] for group in found["groups"]} == {
        "waive.jinja2 after rooms",
        "move.jinja2 after locations",
    }
    shown = run(str(audit), "--config", "config.toml", *scripts).stdout
    assert "Local policy\n" in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if "{" not in line)


def test_an_output_that_infinity_drops_is_counted(folder: Path) -> None:
    (folder / "broken.jinja2").write_text('{"action": "continue" "pin": {{ service_config.pin }}}')
    done = run("urls", "--config", "config.toml", "--local-policy", "service=broken.jinja2")
    assert done.exit_code == 0
    assert "broken.jinja2: dropped: the output is not JSON" in " ".join(done.stdout.split())
    assert "4829" not in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_a_removed_parameter_counts_where_the_script_reads_it(folder: Path) -> None:
    pairs = [("local_alias", "meet07"), ("third_party_passcode", "99")]
    calls = [("service_configuration", "", pairs, AT)]
    audit = str(audits.written(folder / "config.toml", calls, folder / "audit.jsonl"))
    (folder / "pass.jinja2").write_text(PASS)
    read = '{% if call_info["third_party_passcode"] %}{% endif %}'
    (folder / "reads.jinja2").write_text(read + PASS)
    command = (audit, "--config", "config.toml", "--local-policy")
    assert replayed(*command, "pass.jinja2")["records"]["exact"] == 1
    assert replayed(*command, "reads.jinja2")["records"]["partial"] == 1


@pytest.mark.parametrize(
    ("source", "is_read"),
    [
        ("{{ call_info.remote_alias }}", False),
        ("{{ call_info.third_party_passcode }}", True),
        ('{{ call_info.get("third_party_passcode") }}', True),
        ('{{ call_info["third_party_" + "passcode"] }}', True),
        ("{{ call_info|pex_to_json }}", True),
        ("{% set c = call_info %}", True),
        ("{% for key in call_info.keys() %}{% endfor %}", True),
    ],
)
def test_the_names_that_a_script_may_read(source: str, is_read: bool) -> None:
    assert ("third_party_passcode" in names_in(source)) is is_read


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--local-policy", "absent.jinja2"], "absent.jinja2: cannot be read"),
        (["--local-policy", "own.json"], "name a script"),
    ],
)
def test_mistakes_exit_with_2(folder: Path, arguments: list[str], reason: str) -> None:
    done = run("urls", "--config", "config.toml", *arguments)
    assert done.exit_code == 2
    assert reason in done.stderr


def test_suggested_locations_of_infinity_come_from_the_file(folder: Path) -> None:
    (folder / "config.toml").write_text(ROOMS.partition("[plugins.locations")[0])
    script = '{"result": {{ suggested_media_overflow_locations|pex_to_json }}}'
    (folder / "location.jinja2").write_text(script)
    command = ("urls", "--config", "config.toml", "--local-policy", "location.jinja2")
    (unknown,) = replayed(*command)["reasons"]
    assert unknown["reason"].endswith("a JSON file with suggested_media_overflow_locations")
    own = write_json(folder / "own.json", {"suggested_media_overflow_locations": {"location": "A"}})
    found = replayed(*command, "--local-policy", str(own))
    assert found["reasons"] == []
    assert found["local_policy"][0]["verdict"].startswith("location.jinja2: applied: continue")
