"""``pexpolicy local-policy lint`` and ``import``."""

import random
from pathlib import Path

import pytest

from pexpolicy_local_policy.lint import lint
from tests.support.local_policy import PASS, local_policy, write_json


def linted(folder: Path, text: str, *options: str) -> tuple[int, str]:
    path = folder / "script.jinja2"
    path.write_text(text)
    done = local_policy("lint", path, *options)
    return done.exit_code, done.stdout


def test_a_script_without_a_fault(tmp_path: Path) -> None:
    code, shown = linted(tmp_path, PASS)
    assert code == 0
    assert shown.endswith("script.jinja2: 0 errors, 0 warnings and notes\n")


def test_a_script_of_many_statements_is_checked(tmp_path: Path) -> None:
    many = "".join(f"{{% set x{number} = 1 %}}\n" for number in range(1_500))
    assert linted(tmp_path, many + PASS)[0] == 0
    assert "the output is not JSON" in linted(tmp_path, many + "{% if x %}{}{% endif %}")[1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{% if %}", "error: line 1: Expected an expression"),
        ("{}{{ x|tojson }}", "Infinity has no filter 'tojson'; write pex_to_json"),
        (PASS.replace('"reject", "result": {}', '"reject" "result": {}'), "line 2 false"),
        (
            PASS.replace('"continue"', '"abstain"'),
            "the action is 'abstain', which is not one of continue",
        ),
        (" " * 50_000 + PASS, "Infinity stores 49,152"),
    ],
)
def test_errors_exit_with_65(tmp_path: Path, text: str, reason: str) -> None:
    code, shown = linted(tmp_path, text)
    assert code == 65
    assert reason in shown


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{{ pex_debug_log("x") }}' + PASS, "pex_debug_log writes to the support log"),
        (
            '{"action": "reject", "result": {"name": "{{ call_info.remote_alias }}"}}',
            "a quote or backslash in remote_alias breaks the JSON",
        ),
        (
            '{% if call_info.remote_alias == "boss" %}{% endif %}' + PASS,
            "trusts remote_alias alone",
        ),
        ("{% for a in [] %}{% endfor %}" + PASS, "for: no public script has it"),
        ('{"action": "reject", "action": "reject", "result": {}}', "printed twice"),
    ],
)
def test_what_is_doubtful(tmp_path: Path, text: str, reason: str) -> None:
    code, shown = linted(tmp_path, text)
    assert code == 0
    assert reason in shown


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


INFINITY = """
[infinity]
themes = ["Summer"]
locations = ["Oslo", "Bergen"]
"""
CONTINUE = '{"action": "continue", "result": %s}'


@pytest.mark.parametrize(
    ("text", "level", "reason"),
    [
        (CONTINUE % '{"service_type": "room"}', "error", "'room' is not one of conference"),
        (CONTINUE % '{"name": "a"}', "error", "service_type: is missing"),
        (CONTINUE % '{"remote_alias": "a"}', "error", "Write --kind participant"),
        (CONTINUE % '{"service_type": "conference", "name": "a"}', "error", "service_tag: is req"),
        (
            CONTINUE % '{"service_type": "gateway", "locked": true, "name": {{ x|pex_to_json }}}',
            "warning",
            "locked: a service of type gateway has no such field; it is a field of Conference",
        ),
        (
            CONTINUE % '{"service_type": "conference", "view": 4, "name": {{ x|pex_to_json }}}',
            "error",
            "view: must be",
        ),
        (
            CONTINUE
            % '{{ service_config|pex_update({"service_type": "lecture", "q": 1})|pex_to_json }}',
            "warning",
            "q: a service of type lecture has no such field",
        ),
        ('{"action": "redirect", "result": {}}', "error", "a redirect has no new_alias"),
        (
            '{"action": "redirect", "result": {"new_alias": "a", "pin": "1"}}',
            "error",
            "pin: a redirect has nothing but new_alias",
        ),
        ('{"action": "reject", "result": {"x": 1}}', "warning", "a reject has no result"),
        ('{"action": "continue"}', "warning", "there is no result"),
        (CONTINUE % '"a"', "error", "the result is 'a', not an object"),
        (
            CONTINUE % '{"service_type": "conference", "ivr_theme_name": "Sumer", "{{x}}": 1}',
            "error",
            "'Sumer' is not listed under [infinity] themes; did you mean 'Summer'?",
        ),
        (
            CONTINUE % '{"service_type": "{{ x|pex_to_json }}"}',
            "warning",
            "prints quotes of its own",
        ),
        (
            CONTINUE % '{"service_type": "{{ call_info.vendor|lower if x else 1 }}"}',
            "warning",
            "a quote or backslash in vendor breaks the JSON",
        ),
    ],
)
def test_actions_fields_and_names(tmp_path: Path, text: str, level: str, reason: str) -> None:
    (tmp_path / "config.toml").write_text(INFINITY)
    code, shown = linted(tmp_path, text, "--config", str(tmp_path / "config.toml"))
    assert f"{level}: " in shown
    assert reason in shown
    assert code == (65 if level == "error" else 0), shown


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("participant", '{"action": "redirect", "result": {}}', "is not one of continue, reject"),
        ("participant", CONTINUE % '{"pin": "1"}', "a participant script has no such field"),
        ("participant", '{"action": "reject", "result": {"x": 1}}', "nothing but reject_reason"),
        ("media_location", '{"action": "continue"}', "there is no result"),
        ("media_location", '{"result": {}}', "the result has no location"),
        ("media_location", '{"action": "reject", "result": {}}', "the result has no location"),
        (
            "media_location",
            '{"result": {"location": "Oslo", "overflow_locations": ["Oslo", "Bergn"]}}',
            "'Bergn' is not listed under [infinity] locations; did you mean 'Bergen'?",
        ),
    ],
)
def test_each_kind_has_fields_of_its_own(tmp_path: Path, kind: str, text: str, reason: str) -> None:
    (tmp_path / "config.toml").write_text(INFINITY)
    config = ("--config", str(tmp_path / "config.toml"))
    assert reason in linted(tmp_path, text, "--kind", kind, *config)[1]


def test_what_only_a_run_can_tell_is_no_error(tmp_path: Path) -> None:
    for result in (
        "{{ service_config|pex_update({'pin': '', 'locked': true})|pex_to_json }}",
        '{"service_type": {{ x|pex_to_json }}, "a": 1}',
        '{"service_type": "conference", "name": "{{ x }}", "service_tag": "", "pin": "{{ x }}"}',
        '{"service_type": "conference", "name": "a", "service_tag": "", "{{ x }}": "{{ y }}"}',
        "{{ x }}",
    ):
        code, shown = linted(tmp_path, CONTINUE % result)
        assert (code, shown.count("\n")) == (0, 1), shown


def test_a_configuration_that_cannot_be_used_exits_with_2(tmp_path: Path) -> None:
    code, _ = linted(tmp_path, PASS, "--config", str(tmp_path / "absent.toml"))
    assert code == 2


def test_the_kind_is_what_the_variables_tell(tmp_path: Path) -> None:
    text = CONTINUE % '{"remote_alias": "{{ participant.call_uuid }}"}'
    assert linted(tmp_path, text)[0] == 0


def test_no_finding_shows_a_pin(tmp_path: Path) -> None:
    chosen = random.Random(20_260_115)
    pin = "482913"
    words = [
        pin,
        f'"{pin}"',
        '"pin"',
        ":",
        ",",
        "{",
        "}",
        '"service_type": "conference"',
        "{{ x }}",
    ]
    words += [
        '"action": "continue"',
        '"result"',
        '"name"',
        "{% if x %}",
        "{% endif %}",
        f"{{{{ {pin} }}}}",
    ]
    for _ in range(300):
        text = " ".join(chosen.choices(words, k=chosen.randrange(1, 14)))
        found = [str(one) for one in lint(text, chosen.choice(("service", "participant")))]
        assert "4829" not in "".join(found), text
    for field in ("pin", "guest_pin"):
        text = CONTINUE % f'{{"service_type": "conference", "{field}": "{pin}x"}}'
        assert "4829" not in linted(tmp_path, text)[1]


ROOM = '{"service_type": "conference", "name": "a", "service_tag": "", %s}'


@pytest.mark.parametrize(
    ("text", "level", "reason"),
    [
        (
            '{% set type = "room" %}' + CONTINUE % '{"service_type": "{{ type }}"}',
            "error",
            "'room' is not one of conference",
        ),
        (
            "{% set room = " + ROOM % '"q": 1' + " %}" + CONTINUE % "{{ room|pex_to_json }}",
            "warning",
            "q: a service of type conference has no such field",
        ),
        (
            '{% set room = service_config|pex_update({"service_type": "lecture"}) %}'
            '{% set room = room|pex_update({"view": "teams"}) %}'
            + CONTINUE
            % "{{ room|pex_to_json }}",
            "warning",
            "view: a service of type lecture has no such field",
        ),
        (
            "{% set theme %}Sumer{% endset %}"
            + CONTINUE % ROOM % '"ivr_theme_name": "{{ theme }}"',
            "error",
            "did you mean 'Summer'?",
        ),
        (
            '{% with theme = "Sumer" %}'
            + CONTINUE % ROOM % '"ivr_theme_name": "{{ theme }}"'
            + "{% endwith %}",
            "error",
            "did you mean 'Summer'?",
        ),
        (
            '{% if x %}{% set way = "abort" %}{% endif %}{"action": "{{ way }}", "result": {}}',
            "error",
            "the action is 'abort', which is not one of continue, reject, redirect (line 1 true)",
        ),
        (
            "{% set locked = true %}" + CONTINUE % ROOM % '"locked": {{ locked }}',
            "error",
            "the output is not JSON",
        ),
        (
            "{% set name = call_info.remote_display_name %}"
            + CONTINUE % ROOM % '"description": "{{ name }}"',
            "warning",
            "a quote or backslash in remote_display_name breaks the JSON",
        ),
        (
            '{% set name = "Room of " ~ call_info.remote_alias %}{% set shown = name|trim %}'
            + CONTINUE % ROOM % '"description": "{{ shown }}"',
            "warning",
            "a quote or backslash in remote_alias breaks the JSON",
        ),
        (
            '{% set boss = call_info.remote_alias == "boss" %}{% if boss %}{% endif %}' + PASS,
            "warning",
            "trusts remote_alias alone",
        ),
        (
            '{% set caller = call_info.vendor|lower %}{% if caller == "boss" %}{% endif %}' + PASS,
            "warning",
            "trusts vendor alone",
        ),
    ],
)
def test_what_is_assigned_is_followed(tmp_path: Path, text: str, level: str, reason: str) -> None:
    (tmp_path / "config.toml").write_text(INFINITY)
    code, shown = linted(tmp_path, text, "--config", str(tmp_path / "config.toml"))
    assert f"{level}: " in shown
    assert reason in shown
    assert code == (65 if level == "error" else 0), shown


@pytest.mark.parametrize(
    "text",
    [
        # Conditions on values that were assigned, and conditions that were met before.
        '{% set a = "continue" %}{% if x %}{% set a = "reject" %}{% endif %}'
        + CONTINUE.replace('"continue"', '"{{ a }}"')
        % ('{% if a != "reject" %}' + ROOM % '"locked": true' + "{% else %}{}{% endif %}"),
        '{"action": {% if x %}"reject"{% endif %}{% if not x %}"continue"{% endif %},"result":{}}',
        '{% set debug = false %}{% if debug or not true %}{"a": {% endif %}' + PASS,
        # Only a run can tell these.
        "{% set room = service_config %}" + CONTINUE % "{{ room|pex_to_json }}",
        '{% set names = ["a"] %}{% set _ = names.extend(call_info.ms_subnet) %}'
        + CONTINUE % ROOM % '"locked": {{ names }}',
        '{{ service_config.automatic_participants.extend(["a"]) or "" }}' + PASS,
        '{% for view in ["a"] %}{% set type = "room" %}{% endfor %}'
        + CONTINUE % '{"service_type": "{{ type }}"}',
        '{% set name, type = "a", "room" %}' + CONTINUE % '{"service_type": "{{ type }}"}',
        "{% set type %}{{ x }}{% endset %}" + CONTINUE % '{"service_type": "{{ type }}"}',
        # No value of a caller is printed, and none alone is trusted.
        "{% set name = call_info.remote_alias|pex_to_json %}"
        + CONTINUE % ROOM % '"description": {{ name }}',
        '{% set same = call_info.remote_alias == "a" %}'
        + CONTINUE % ROOM % '"description": "{{ same }}"',
        '{% set known = call_info.registered %}{% if known and call_info.vendor == "x" %}'
        "{% endif %}" + PASS,
        "{% set name = call_info.remote_display_name %}{% if name %}{% endif %}" + PASS,
    ],
)
def test_what_is_assigned_makes_no_false_error(tmp_path: Path, text: str) -> None:
    code, shown = linted(tmp_path, text)
    assert code == 0, shown
    assert "warning: " not in shown, shown
