"""``pexpolicy local-policy test``."""

import json
from pathlib import Path

import pytest

from tests.support import wire
from tests.support.local_policy import CALL, ROOM, local_policy, write_json

SCRIPT = """{
  {{ pex_debug_log(call_info.local_alias, pex_now().hour) }}
  {% if service_config %}
    "action": "continue", "result": {{ service_config|pex_update({"pin": ""})|pex_to_json }}
  {% else %}
    "action": "reject", "result": {}
  {% endif %}
}"""
TOP = 'script = "script.jinja2"\n'
NAMED = '[[case]]\nname = "a"\n'
SERVICE = "service_config = { pin = '482913', name = 'A', service_type = 'conference' }\n"
REQUEST = f"request = '{wire.SERVICE}?local_alias=x'\n"
NOON = "at = 2026-01-15T12:00:00Z\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script.jinja2").write_text(SCRIPT)
    write_json(tmp_path / "input.json", {"call_info": CALL, "service_config": ROOM})
    monkeypatch.chdir(tmp_path)


def shown_by(text: str, *options: str) -> tuple[int, str]:
    Path("cases.toml").write_text(text)
    done = local_policy("test", "cases.toml", *options)
    assert "48291" not in done.output
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.parametrize(
    "case",
    [
        "expect = { action = 'reject' }",
        "input = 'input.json'\nexpect = { action = 'continue', changed = ['pin'] }",
        "input = 'input.json'\nexpect = { result = { pin = '', service_type = 'conference' } }",
        f"{REQUEST}at = '2026-01-15 12:00+00:00'\nexpect = {{ debug = ['x,12'] }}",
        f"{REQUEST}{NOON}call_info = {{ local_alias = 'y' }}\nexpect = {{ debug = ['y,12'] }}",
        f"{SERVICE}expect = {{ dropped = 'name' }}\nscript = 'empty.jinja2'",
        "script = 'empty.jinja2'\nexpect = { dropped = true }",
        "kind = 'participant'\nexpect = { action = 'reject' }",
    ],
)
def test_cases_that_pass(case: str) -> None:
    Path("empty.jinja2").write_text('{"action": "continue", "result": {"service_type": "gateway"}}')
    code, shown = shown_by(TOP + NAMED + case)
    assert (code, "1 passed, 0 failed" in shown) == (0, True), shown


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("expect = { action = 'continue' }", "action expected continue got reject"),
        ("expect = { dropped = true }", "dropped expected true got false"),
        (f"{SERVICE}expect = {{ result = {{ pin = '1' }} }}", "result.pin expected *** got"),
        (f"{SERVICE}expect = {{ result = {{ x = 1 }} }}", "result.x expected 1 got nothing"),
        (f"{SERVICE}expect = {{ changed = [] }}", "changed expected nothing got pin"),
        ("expect = { debug = [] }", "debug expected nothing got ,"),
    ],
)
def test_cases_that_fail(case: str, reason: str) -> None:
    code, shown = shown_by(TOP + NAMED + case)
    assert code == 1
    assert reason in shown
    assert "48291" not in shown
    told = json.loads(local_policy("test", "cases.toml", "--json").stdout)
    assert told["failed"] == 1
    assert {"debug", "warnings"} <= told["cases"][0].keys()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no case ran: of 0 in the files"),
        ("case = 1", "case: write [[case]]"),
        ("x = 1", "x: unknown key"),
        ("a b", "is not valid TOML"),
        (f"a = {'9' * 5000}", "is not valid TOML"),
        (TOP + 'kind = ["service"]\n' + NAMED, "kind: is not one of service"),
        (r'script = "a\u0000"' + "\n" + NAMED, "cannot be read: embedded null byte"),
        (NAMED, "script: is missing"),
        (TOP + "[[case]]", "name: is missing"),
        (TOP + NAMED + "call_inf = {}", "call_inf: unknown key; did you mean 'call_info'?"),
        (TOP + NAMED + "script = 'absent'", "absent: cannot be read"),
        (TOP + NAMED + "at = 'noon'", "'noon' is not a time"),
        (TOP + NAMED + "kind = 'room'", "kind: "),
        (TOP + NAMED + "input = 'script.jinja2'", "script.jinja2: is not JSON"),
        (TOP + NAMED + "request = '/x'", "is not one of the paths"),
        (TOP + NAMED + "request = '/policy/v1/registrations/a'", "is not asked for a"),
        (TOP + NAMED + "suggested_media_overflow_locations = {}\nkind = 'service'", "no such var"),
        (TOP + NAMED * 2, "two cases have the name 'a'"),
    ],
)
def test_mistakes_exit_with_2(text: str, reason: str) -> None:
    code, shown = shown_by(text)
    assert code == 2
    assert reason in shown, shown


def test_cases_are_chosen_by_name() -> None:
    both = TOP + NAMED + "expect = { action = 'continue' }\n" + NAMED.replace('"a"', '"Other"')
    assert shown_by(both, "-k", "oth")[0] == 0
    assert shown_by(both, "-k", "zzz")[0] == 2
