"""``pexpolicy local-policy lint`` and ``import``."""

from pathlib import Path

import pytest

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
        (PASS.replace('"continue"', '"abstain"'), "the action is not one of continue"),
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
