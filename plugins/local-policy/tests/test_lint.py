"""``pexpolicy local-policy lint`` and ``import``."""

import random
from pathlib import Path

import pytest

from pexpolicy_local_policy.lint import lint
from pexpolicy_local_policy.script_process import ScriptPool
from tests.support.local_policy import PASS, local_policy, write_json

INFINITY = """
[infinity]
themes = ["Summer"]
locations = ["Oslo", "Bergen"]
"""
CONTINUE = '{"action": "continue", "result": %s}'
ROOM = CONTINUE % '{"service_type": "conference", "name": "a", "service_tag": "", %s}'
IF = "{%% if %s %%}{%% endif %%}" + PASS.replace("%", "%%")
GUARDED = "{%% if service_config %%}%s{%% else %%}" + CONTINUE % "{}" + "{%% endif %%}"


def linted(folder: Path, text: str, *options: str) -> tuple[int, str]:
    path = folder / "script.jinja2"
    path.write_text(text)
    (folder / "config.toml").write_text(INFINITY)
    done = local_policy("lint", path, "--config", folder / "config.toml", *options)
    return done.exit_code, done.stdout


@pytest.mark.parametrize(
    "text",
    [
        PASS,
        "".join(f"{{% set x{number} = 1 %}}\n" for number in range(1_500)) + PASS,
        "{% if service_config.service_type in ['conference', 'lecture'] %}"
        + GUARDED % (CONTINUE % "{{ service_config|pex_update({'pin': ''})|pex_to_json }}")
        + "{% else %}"
        + PASS
        + "{% endif %}",
        "{% set name = call_info.remote_alias|pex_to_json %}" + ROOM % '"description": {{ name }}',
        '{% set same = call_info.remote_alias == "a" %}' + ROOM % '"description": "{{ same }}"',
        IF % 'call_info.registered and call_info.vendor == "x"',
        "{% set name = call_info.remote_display_name %}" + IF % "name",
        '{% set debug = false %}{% if debug or not true %}{"a": {% endif %}' + PASS,
        CONTINUE % '{"remote_alias": "{{ participant.call_uuid }}"}',
        '{"result": {{ suggested_media_overflow_locations|pex_to_json }}}',
        '{{ ""|pex_require_min_length(20) }}' + PASS,
    ],
)
def test_scripts_without_a_fault(tmp_path: Path, text: str) -> None:
    code, shown = linted(tmp_path, text)
    assert shown.endswith("script.jinja2: 0 errors, 0 warnings and notes\n"), shown
    assert code == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{% if %}", "line 1: Expected an expression"),
        ("{}{{ x|tojson }}", "Infinity has no filter 'tojson'; write pex_to_json"),
        (" " * 50_000 + PASS, "Infinity stores 49,152"),
        (PASS.replace('"reject", "result": {}', '"reject" "result": {}'), "with no service_config"),
        (PASS.replace('"continue"', '"abstain"'), "'abstain' is not one of continue"),
        (PASS + "{{ call_info.protocol.x.y }}", "line 7: the script fails: "),
        (
            '{% if call_info.remote_alias == "boss" and call_info.registered %}{% endif %}'
            '{% if call_info.vendor in ["a", "b"] and call_info.protocol == "sip" %}{% endif %}'
            '{% if call_info.vendor == "b" %}x{% endif %}' + PASS,
            "with call_info.vendor = 'b'",
        ),
        ("{% if service_config.service_type == 'test_call' %}x{% endif %}" + PASS, "test_call)"),
        ("{% if call_info.registered %}x{% endif %}" + PASS, "with a registered device"),
        ("{% for a in 9999999|range %}{% for b in 99999|range %}{% endfor %}{% endfor %}", "fails"),
        (CONTINUE % '{"service_type": "room"}', "service_type: 'room' is not one of conference"),
        ('{% set type = "room" %}' + CONTINUE % '{"service_type": "{{ type }}"}', "'room' is not"),
        (CONTINUE % '{"name": "a"}', "service_type: is required"),
        (ROOM % '"view": 4', "view: must be"),
        (ROOM % '"locked": {{ true }}', "the output is not JSON"),
        ('{"action": "redirect", "result": {}}', "new_alias: is required"),
        ('{"action": "redirect", "result": {"new_alias": "a", "pin": "1"}}', "pin: there is no"),
        (CONTINUE % '"a"', "result is 'a', not an object"),
        (ROOM % '"ivr_theme_name": "Sumer"', "'Sumer' is not listed under [infinity] themes"),
        ("{% set t %}Sumer{% endset %}" + ROOM % '"ivr_theme_name": "{{ t }}"', "'Summer'?"),
    ],
)
def test_errors_exit_with_65(tmp_path: Path, text: str, reason: str) -> None:
    code, shown = linted(tmp_path, text, "--kind", "service")
    errors = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert any(reason in line for line in errors), shown
    assert code == 65


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{{ pex_debug_log("x") }}' + PASS, "pex_debug_log writes to the support log"),
        ("{% for a in [] %}{% endfor %}" + PASS, "for: no public script has it"),
        ('{"action": "reject", "action": "reject", "result": {}}', "printed twice"),
        ('{"action": "reject", "result": {"x": 1}}', "the result of a reject is not used"),
        ('{"action": "continue"}', "there is no result"),
        (
            CONTINUE % "{{ service_config|pex_update({'pin': ''})|pex_to_json }}",
            "no service_config",
        ),
        (ROOM % '"q": 1', "q: there is no field 'q' in Conference"),
        (
            "{% set room = service_config|pex_update({'service_type': 'lecture'}) %}"
            + GUARDED % (CONTINUE % "{{ room|pex_update({'view': 'teams'})|pex_to_json }}"),
            "no field 'view' in Lecture",
        ),
        (ROOM % '"description": "{{ call_info.remote_alias }}"', "backslash in remote_alias"),
        (ROOM % '"description": "{{ call_info.vendor|lower if 1 else 1 }}"', "backslash in vendor"),
        (ROOM % '"description": "{{ call_info["vendor"] }}"', "a quote or backslash in vendor"),
        (
            '{% set name = "Room of " ~ call_info.remote_alias %}{% set shown = name|trim %}'
            + ROOM % '"description": "{{ shown }}"',
            "a quote or backslash in remote_alias breaks the JSON",
        ),
        (IF % 'call_info.remote_alias == "boss"', "trusts remote_alias alone"),
        ('{% set boss = call_info.vendor == "x" %}' + IF % "boss", "trusts vendor alone"),
        ("{% set caller = call_info.vendor|lower %}" + IF % 'caller == "x"', "trusts vendor alone"),
        (IF % "call_info.local_alais", "call_info.local_alais: a service script has no such value"),
        (IF % "local_alias", "no such variable; did you mean call_info.local_alias?"),
        (IF % "partcipant", "partcipant: a service script has no such variable; there are call_"),
    ],
)
def test_what_is_doubtful(tmp_path: Path, text: str, reason: str) -> None:
    code, shown = linted(tmp_path, text)
    assert reason in shown
    assert code == 0, shown


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("participant", '{"action": "redirect", "result": {}}', "is not one of continue, reject"),
        ("participant", CONTINUE % '{"pin": "1"}', "no field 'pin' in ParticipantProperties"),
        ("participant", '{"action": "reject", "result": {"x": 1}}', "nothing but reject_reason"),
        ("media_location", '{"action": "continue"}', "there is no result"),
        ("media_location", '{"result": {}}', "the result has no location"),
        (
            "media_location",
            '{"result": {"location": "Oslo", "overflow_locations": ["Oslo", "Bergn"]}}',
            "'Bergn' is not listed under [infinity] locations; did you mean 'Bergen'?",
        ),
    ],
)
def test_each_kind_has_fields_of_its_own(tmp_path: Path, kind: str, text: str, reason: str) -> None:
    assert reason in linted(tmp_path, text, "--kind", kind)[1]


def test_a_configuration_that_cannot_be_used_exits_with_2(tmp_path: Path) -> None:
    assert linted(tmp_path, PASS, "--config", str(tmp_path / "absent.toml"))[0] == 2


async def test_no_finding_shows_a_pin() -> None:
    chosen = random.Random(20_260_115)
    pin = "482913"
    words = [
        *(pin, f'"{pin}"', '"pin"', ":", ",", "{", "}", '"service_type": "conference"', "{{ x }}"),
        *('"action": "continue"', '"result"', '"name"', "{% if x %}", "{% endif %}"),
        *(f"{{{{ {pin} }}}}", f"{{% if service_config.pin == '{pin}' %}}"),
    ]
    texts = [" ".join(chosen.choices(words, k=chosen.randrange(1, 14))) for _ in range(100)]
    texts += [ROOM % f'"{field}": "{pin}x"' for field in ("pin", "guest_pin", pin)]
    texts += [f"{{% if service_config.pin == '{pin}' %}}{{% endif %}}x"]
    async with ScriptPool(1, 2.0).running() as pool:
        for text in texts:
            found = await lint(pool, text, chosen.choice(("service", "participant")))
            assert "4829" not in "".join(map(str, found)), text


def test_import_writes_the_scripts_of_each_profile(tmp_path: Path) -> None:
    profile = {
        "name": "Oslo / main",
        "internal_service_policy_template": PASS,
        "internal_participant_policy_template": "",
        "internal_media_location_policy_template": '{"result": {}}',
    }
    dump = write_json(tmp_path / "dump.json", {"meta": {}, "objects": [profile]})
    done = local_policy("import", dump, "--into", tmp_path / "scripts")
    assert done.exit_code == 0
    files = {path.name: path.read_text() for path in (tmp_path / "scripts").iterdir()}
    assert files == {
        "oslo-main-service.jinja2": PASS,
        "oslo-main-media_location.jinja2": '{"result": {}}',
    }
    again = local_policy("import", dump, "--into", tmp_path / "scripts")
    assert again.exit_code == 2
    assert "cannot be written: File exists" in again.stderr


def test_a_script_that_is_no_text_leaves_no_file(tmp_path: Path) -> None:
    profile = {"name": "a", "internal_service_policy_template": "{}\udcff"}
    done = local_policy("import", write_json(tmp_path / "dump.json", profile), "--into", tmp_path)
    assert (done.exit_code, [path.name for path in tmp_path.iterdir()]) == (2, ["dump.json"])
    assert "half a character" in done.stderr
