"""The plugin over HTTP: what a script decides, and what follows where it cannot."""

import json
from pathlib import Path
from typing import Any

import pytest

from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError
from pexpolicy.policy import Policy
from pexpolicy.testing import client
from tests.support import installed
from tests.support.local_policy import PASS

SERVICE = """
{% if call_info.local_alias.startswith("team-") %}
  {"action": "continue", "result": {"service_type": "conference", "service_tag": "team",
    "name": "{{ call_info.local_alias|pex_regex_replace("^team-", "") }}",
    "pin": "{{ ("secret" + call_info.local_alias)|pex_hash|pex_tail(6) }}"}}
{% elif call_info.local_alias == "closed" %}
  {"action": "reject", "result": {}}
{% elif call_info.local_alias == "own" %}
  {"action": "continue", "result": {}}
{% elif call_info.local_alias == "broken" %}
  {"action": "continue", "result": {"name": {{ call_info.nothing }}}}
{% elif call_info.local_alias == "endless" %}
  {{ ("a" * 40)|pex_regex_replace("(a+)+$b", "") }}
{% elif call_info.local_alias == "short" %}
  {{ call_info.local_alias|pex_require_min_length(10) }}
{% elif service_config %}
  {"action": "continue", "result": {{ service_config|pex_to_json }}}
{% else %}
  {"action": "reject", "result": {}}
{% endif %}
"""
PATH = "/policy/v1/service/configuration"
LOCATION = "/policy/v1/participant/location"


def config(
    folder: Path,
    scripts: dict[str, str],
    more: dict[str, Any] | None = None,
    *,
    timeout: float = 4.0,
) -> Path:
    """Write scripts, and a configuration that names them.

    ``timeout`` is in seconds; the default is more than a script needs on a busy machine.
    """
    keys = []
    for endpoint, text in scripts.items():
        (folder / f"{endpoint}.jinja2").write_text(text)
        keys.append(f'{endpoint} = "{endpoint}.jinja2"')
    tables = ["[plugins.local-policy]", f"timeout = {timeout}"]
    tables += ["[plugins.local-policy.settings]", *keys]
    for key, value in (more or {}).items():
        tables.append(f"{key} = {json.dumps(value)}")
    path = folder / "config.toml"
    path.write_text("\n".join(tables) + "\n")
    return path


async def asked(path: Path, *targets: str) -> list[dict[str, Any]]:
    async with client(path) as http:
        replies = [await http.get(target) for target in targets]
        return [json.loads(await reply.read()) for reply in replies]


async def test_a_script_decides_as_on_a_node(tmp_path: Path) -> None:
    aliases = ("team-blue", "closed", "own", "lobby", "broken", "short")
    answers = await asked(
        config(tmp_path, {"service_configuration": SERVICE}),
        *(f"{PATH}?local_alias={alias}" for alias in aliases),
    )
    team, closed, own, lobby, broken, short = answers
    assert team["result"]["name"] == "blue"
    assert team["decided_by"] == "local-policy"
    assert team["reason"] == "script service_configuration.jinja2"
    assert closed["action"] == "reject"
    assert own["action"] == "continue"
    assert own["decided_by"] == "local-policy"
    # What only the node knows, or what Infinity would not apply, is left to others.
    assert {reply["decided_by"] for reply in (lobby, broken, short)} == {"default"}


async def test_an_endless_script_ends_in_time_and_the_next_call_is_answered(tmp_path: Path) -> None:
    # On a busy machine a call may be late while another process is started.
    endless, *later = await asked(
        config(tmp_path, {"service_configuration": SERVICE}, timeout=2.0),
        f"{PATH}?local_alias=endless",
        *[f"{PATH}?local_alias=team-red"] * 4,
    )
    assert endless["decided_by"] == "default"
    assert "red" in [reply.get("result", {}).get("name") for reply in later]


async def test_a_location_that_only_the_node_knows_is_left_to_it(tmp_path: Path) -> None:
    script = """{ {% if call_info.location == "East" %}
      "result": {"location": "East", "overflow_locations": ["West"]}
    {% else %} "result": {{ suggested_media_overflow_locations|pex_to_json }} {% endif %} }"""
    east, north = await asked(
        config(tmp_path, {"media_location": script}),
        f"{LOCATION}?location=East",
        f"{LOCATION}?location=North",
    )
    assert east["result"] == {"location": "East", "overflow_locations": ["West"]}
    assert north["decided_by"] == "default"


async def test_a_script_adjusts_the_decisions_of_other_plugins(tmp_path: Path) -> None:
    text = """{
      {% if service_config and call_info.external_policy_disposition == "CONTINUE" %}
        "action": "continue",
        "result": {{ service_config|pex_update({"enable_overlay_text": true})|pex_to_json }}
      {% else %} "action": "reject", "result": {} {% endif %} }"""
    path = config(tmp_path, {"service_configuration": text}, {"adjust": True})
    with path.open("a") as file:
        file.write('[plugins.rooms.settings.rooms.meet07]\nname = "Meeting 07"\npin = "482913"\n')
    room, other = await asked(path, f"{PATH}?local_alias=meet07", f"{PATH}?local_alias=x")
    assert room["result"]["enable_overlay_text"] is True
    assert room["result"]["pin"] == "482913"
    assert room["decided_by"] == "rooms"
    assert other["decided_by"] == "default"


async def test_fields_that_a_script_does_not_name_stay_as_on_a_node(tmp_path: Path) -> None:
    path = config(
        tmp_path,
        {
            "participant_properties": '{"action": "continue", "result": {"remote_alias": "x"}}',
            "media_location": '{"result": {"location": "Oslo"}}',
        },
        {"adjust": True},
    )
    with path.open("a") as file:
        file.write("""
[[plugins.rules.settings.rules]]
name = "guests"
endpoint = "participant_properties"
then.result = { preauthenticated_role = "guest", rx_presentation_policy = "DENY" }
[plugins.locations.settings]
default = "Bergen"
default_overflow = ["Voss"]
""")
    guest, location = await asked(
        path, "/policy/v1/participant/properties?remote_alias=a", f"{LOCATION}?location=East"
    )
    assert guest["result"] == {
        "remote_alias": "x",
        "preauthenticated_role": "guest",
        "rx_presentation_policy": "DENY",
    }
    assert location["result"] == {"location": "Oslo", "overflow_locations": ["Voss"]}


@pytest.mark.parametrize(
    "result", ["null", '{"reject_reason": "{{ call_info.remote_display_name }}"}']
)
async def test_a_reject_stays_one_whatever_is_next_to_it(tmp_path: Path, result: str) -> None:
    script = f'{{"action": "reject", "result": {result}}}'
    (reply,) = await asked(
        config(tmp_path, {"participant_properties": script}),
        f"/policy/v1/participant/properties?remote_display_name={'x' * 300}",
    )
    assert (reply["action"], reply["decided_by"]) == ("reject", "local-policy")


def built(path: Path) -> Policy:
    from tomllib import loads  # noqa: PLC0415 - of one test

    return build_policy(from_document(loads(path.read_text()), path), available=installed.plugins())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{% if %}", "line 1: Expected an expression"),
        ("\n{{ x|tojson }}", "line 2: Infinity has no filter 'tojson'; write pex_to_json"),
        ("(" * 10 + "{{" + "(" * 5000, "nested too deeply"),
    ],
)
def test_a_script_that_is_none_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = config(tmp_path, {"service_configuration": text})
    with pytest.raises(ConfigError) as refused:
        built(path)
    (problem,) = refused.value.problems
    assert problem.key == ("plugins", "local-policy", "settings", "service_configuration")
    assert reason in problem.text


def test_a_plugin_without_a_script_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        built(config(tmp_path, {}))
    assert "names no script" in str(refused.value.problems[0])


def test_debug_calls_are_a_warning(tmp_path: Path) -> None:
    path = config(tmp_path, {"service_configuration": '{{ pex_debug_log("x") }}' + PASS})
    texts = [str(warning) for warning in built(path).warnings]
    assert any("pex_debug_log" in text for text in texts)
