"""``pexpolicy local-policy run``: JSON, verdict and exit code."""

import json
from pathlib import Path

from tests.support.local_policy import CALL, PASS, ROOM, local_policy, write_json


def script(folder: Path, text: str) -> Path:
    path = folder / "script.jinja2"
    path.write_text(text)
    return path


def test_json_is_on_standard_output_and_the_verdict_on_standard_error(tmp_path: Path) -> None:
    given = write_json(tmp_path / "in.json", {"call_info": CALL, "service_config": ROOM})
    done = local_policy("run", script(tmp_path, PASS), "--input", given)
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"action": "continue", "result": ROOM}
    assert "verdict: applied: continue, with the same fields" in done.stderr


def test_without_a_service_the_script_rejects(tmp_path: Path) -> None:
    given = write_json(tmp_path / "in.json", {"call_info": CALL, "service_config": None})
    done = local_policy("run", script(tmp_path, PASS), "--kind", "service", "--input", given)
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"action": "reject", "result": {}}
    assert done.stderr == "verdict: applied: the call is rejected\n"


def test_output_that_is_not_json_exits_with_65(tmp_path: Path) -> None:
    broken = script(tmp_path, '{"action": "continue", "result": {"pin": {{ call_info.pin }}}}')
    given = write_json(tmp_path / "in.json", {"call_info": CALL})
    done = local_policy("run", broken, "--kind", "service", "--input", given)
    assert done.exit_code == 65
    assert done.stdout == ""
    assert "verdict: dropped: the output is not JSON: expecting value at" in done.stderr
    assert "Infinity keeps the configuration that stood before" in done.stderr


def test_one_piece_of_output_that_is_too_long_is_the_reason(tmp_path: Path) -> None:
    done = local_policy("run", script(tmp_path, "{{ 'a' * 20000000 }}"))
    assert (done.exit_code, done.stdout) == (65, "")
    assert "it printed more than 200,000 characters" in done.stderr


def test_a_request_becomes_call_info(tmp_path: Path) -> None:
    text = '{"result": {{ call_info|pex_to_json }}, "action": "reject"}'
    url = (
        "/policy/v1/service/configuration?call_direction=dial_in&registered=True&remote_port=5060"
        "&local_alias=sip%3Aroom%40example.com&ms-subnet=10.1.0.0&call_tag="
    )
    done = local_policy("run", script(tmp_path, text), "--request", url)
    assert json.loads(done.stdout)["result"] == {
        "call_direction": "dial_in",
        "call_tag": "",
        "local_alias": "sip:room@example.com",
        "registered": True,
        "remote_port": 5060,
        "ms_subnet": ["10.1.0.0"],
    }


def test_attributes_of_the_identity_provider_are_those_of_the_participant(tmp_path: Path) -> None:
    text = '{"action": "reject", "result": {{ participant|pex_to_json }}}'
    url = (
        "/policy/v1/participant/properties?preauthenticated_role=chair&idp_attribute_group=a"
        "&idp_attribute_group=b&idp_attribute_X-wing%20pilot=yes&remote_alias=x"
    )
    done = local_policy("run", script(tmp_path, text), "--request", url)
    assert json.loads(done.stdout)["result"]["idp_attributes"] == {
        "group": ["a", "b"],
        "X-wing pilot": "yes",
    }


def test_pex_now_is_the_time_of_the_option(tmp_path: Path) -> None:
    text = '{"result": {"location": "{{ pex_now("Europe/Oslo").hour }}"}}'
    at = ("--at", "2026-12-24 22:00 UTC")
    done = local_policy("run", script(tmp_path, text), "--kind", "media_location", *at)
    assert json.loads(done.stdout)["result"]["location"] == "23"


def test_mistakes_in_the_input_exit_with_2(tmp_path: Path) -> None:
    path = script(tmp_path, PASS)
    for value, reason in [
        ({"cal_info": {}}, "cal_info: a script of the kind service has no such variable"),
        ([], "the input is no object"),
        ({"call_info": 1}, "call_info: is no object"),
    ]:
        given = write_json(tmp_path / "in.json", value)
        done = local_policy("run", path, "--input", given)
        assert done.exit_code == 2
        assert reason in done.stderr
    assert local_policy("run", path, "--request", "lobby").exit_code == 2
    assert local_policy("run", tmp_path / "absent").exit_code == 2


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    text = '{"action": "reject", "result": {"x": "{{ call_info.remote_alias }}"}}'
    evil = {"remote_alias": "\x9b31m\u202e"}
    given = write_json(tmp_path / "in.json", {"call_info": evil})
    done = local_policy("run", script(tmp_path, text), "--input", given)
    assert json.loads(done.stdout)["result"]["x"] == evil["remote_alias"]
    assert "\x9b" not in done.stdout
    assert "\u202e" not in done.stdout
