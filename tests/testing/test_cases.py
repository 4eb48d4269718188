"""Files of cases: what is expected, what is said of a difference, the command that runs them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from pexpolicy import (
    Conference,
    Continue,
    MediaLocation,
    Redirect,
    Reject,
    ServiceConfigurationRequest,
    hookimpl,
)
from pexpolicy.cli.main import main
from pexpolicy.testing import CasesError, assert_case, load_cases, make_policy
from tests.support import live_server

EXAMPLES = live_server.ROOT / "examples/cases.toml"
AVATAR = 'endpoint = "participant_avatar"\n'
SERVICE = 'endpoint = "service_configuration"\n'


MANY = {
    "service_type": "conference",
    "name": "Many",
    "service_tag": "",
    "automatic_participants": [
        {**dict.fromkeys(("local_alias", "remote_alias"), "a"), "protocol": "sip"}
        | {"role": "guest", "dtmf_sequence": "9876"}
    ],
}
ANSWERS: dict[str, Any] = {
    "room": Conference(name="Room", service_tag="t", pin="4711", reason="a room"),
    "no": Reject(reason="not you"),
    "away": Redirect(new_alias="sip:other@example.com"),
    "yours": Continue(reason="known to Infinity"),
    "wrong": Conference,
    "many": MANY,
}


class Toy:
    """Answers by the alias that was dialed."""

    @hookimpl
    async def service_configuration(self, request: ServiceConfigurationRequest) -> object:
        return ANSWERS.get(request.local_alias)

    @hookimpl
    async def media_location(self) -> MediaLocation:
        return MediaLocation(location="Oslo", overflow_locations=["Bergen"])


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files of cases."""

    def file(content: str, name: str = "cases.toml") -> Path:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return file


def dialed(alias: str, expect: str = "", more: str = "") -> str:
    """One case about a dialed alias."""
    expected = f"expect = {expect}\n" if expect else ""
    request = f'request = {{ local_alias = "{alias}" }}\n'
    return f'[[case]]\nname = "{alias}"\n{SERVICE}{request}{expected}{more}'


# ---- the shipped behaviour


@pytest.mark.parametrize("case", load_cases(EXAMPLES), ids=str)
def test_the_shipped_configuration_behaves_as_its_cases_say(case: Any) -> None:
    assert_case(live_server.SHIPPED, case)


def test_the_command_runs_the_shipped_cases() -> None:
    result = CliRunner().invoke(main, ["test", str(EXAMPLES), "--config", str(live_server.SHIPPED)])
    assert result.exit_code == 0, result.output
    assert f"{len(load_cases(EXAMPLES))} passed, 0 failed" in result.output
    assert "never" not in result.output


# ---- what is expected


@pytest.mark.parametrize(
    ("alias", "expect"),
    [
        ("nobody", ""),
        ("nobody", "{}"),
        ("nobody", '{ decided_by = "default" }'),
        ("nobody", '{ action = "continue", status = 200, result = {} }'),
        ("nobody", '{ steps = { toy = "abstained" } }'),
        ("room", '{ decided_by = "toy" }'),
        ("room", '{ result = { name = "Room" } }'),
        ("room", '{ result = { name = "Room", pin = "4711", service_type = "conference" } }'),
        ("room", '{ reason = "a room" }'),
        ("no", '{ action = "reject" }'),
        ("no", '{ action = "reject", decided_by = "toy", status = 200, reason = "not you" }'),
        ("away", '{ action = "redirect", result = { new_alias = "sip:other@example.com" } }'),
        ("yours", '{ decided_by = "toy", result = {} }'),
        ("wrong", '{ steps = { toy = "invalid" } }'),
        ("many", '{ result = { automatic_participants = [{ role = "guest" }] } }'),
    ],
)
def test_these_cases_pass(write: Write, alias: str, expect: str) -> None:
    (case,) = load_cases(write(dialed(alias, expect)))
    assert_case(Toy, case)


@pytest.mark.parametrize(
    ("alias", "expect", "said"),
    [
        ("room", "", ["decided_by  expected default", "got      toy"]),
        ("room", "{}", ["decided_by"]),
        ("room", '{ action = "continue" }', ["decided_by  expected default"]),
        ("yours", '{ action = "continue" }', ["decided_by  expected default"]),
        ("yours", "{ status = 200, result = {} }", ["decided_by  expected default"]),
        ("no", "", ["decided_by", "action", "expected continue", "got      reject"]),
        ("no", '{ decided_by = "toy" }', ["action  expected continue"]),
        ("away", '{ result = { new_alias = "sip:other@example.com" } }', ["got      redirect"]),
        ("nobody", '{ decided_by = "toy" }', ["got      default", "toy abstained after"]),
        ("nobody", '{ decided_by = "toyy" }', ["expected toyy", "got      default"]),
        ("nobody", '{ result = { name = "Room" } }', ['result  expected {"name": "Room"}']),
        ("room", '{ result = { name = "Rom" } }', ['expected "Rom"', 'got      "Room"']),
        ("room", '{ result = { nam = "Room" } }', ["got      nothing; did you mean 'name'?"]),
        ("room", "{ result = [] }", ["result", "expected []"]),
        ("room", '{ reason = "else" }', ["reason  expected else", "got      a room"]),
        ("room", '{ status = 404, decided_by = "toy" }', ["status  expected 404", "got      200"]),
        ("room", '{ decided_by = "toy", steps = { toi = "decided" } }', ["got      not asked"]),
        ("room", '{ decided_by = "toy", result = { name = true } }', ["expected true"]),
        ("wrong", "{ result = { name = 1 } }", ["toy invalid after", "not a decision"]),
        ("many", "{ result = { automatic_participants = [] } }", ["automatic_participants"]),
        (
            "many",
            '{ result = { automatic_participants = [{ role = "chair" }] } }',
            ['result.automatic_participants[0].role  expected "chair"'],
        ),
    ],
)
def test_these_cases_fail_and_say_why(
    write: Write, alias: str, expect: str, said: list[str]
) -> None:
    (case,) = load_cases(write(dialed(alias, expect)))
    with pytest.raises(AssertionError) as failed:
        assert_case(Toy, case)
    assert str(failed.value).startswith(f"{alias}\n")
    assert [text for text in said if text not in str(failed.value)] == []


@pytest.mark.parametrize(
    ("alias", "expect"),
    [
        ("room", '{ result = { pin = "1234" } }'),
        ("room", '{ result = ["x"] }'),
        ("many", '{ result = { automatic_participants = [{ dtmf_sequence = "1" }] } }'),
        ("many", "{ result = { automatic_participants = [] } }"),
    ],
)
def test_a_difference_shows_no_secret_of_the_policy(write: Write, alias: str, expect: str) -> None:
    (case,) = load_cases(write(dialed(alias, expect)))
    with pytest.raises(AssertionError) as failed:
        assert_case(Toy, case)
    assert "4711" not in str(failed.value)
    assert "9876" not in str(failed.value)
    assert "***" in str(failed.value)


def test_a_default_that_rejects_is_what_is_expected_then(write: Write) -> None:
    (case,) = load_cases(write(dialed("nobody")))
    config = {"endpoints": {"service_configuration": {"default": "reject"}}}
    assert_case(Toy, case, config=config)
    (case,) = load_cases(write(dialed("nobody", '{ action = "continue" }')))
    with pytest.raises(AssertionError, match="got      reject"):
        assert_case(Toy, case, config=config)


def test_other_endpoints_have_defaults_of_their_own(write: Write) -> None:
    content = '[[case]]\nname = "it"\nendpoint = "media_location"\n'
    (default,) = load_cases(write(content + "expect = { status = 404 }"))
    with pytest.raises(AssertionError, match="got      toy"):
        assert_case(Toy, default)
    (located,) = load_cases(write(content + 'expect = { result = { location = "Oslo" } }'))
    assert_case(Toy, located)


def test_a_picture_has_a_type_and_a_size(write: Write) -> None:
    class Faces:
        @hookimpl
        async def participant_avatar(self) -> bytes:
            return (
                b"GIF89a\x01\x00\x01\x00\x80\x01\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00"
                b"\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
            )

    content = f'[[case]]\nname = "it"\n{AVATAR}request = {{ width = 20, height = 30 }}\n'
    expect = 'expect = { result = { content_type = "image/jpeg", width = 20, height = 30 } }'
    (case,) = load_cases(write(content + expect))
    assert_case(Faces, case)
    (case,) = load_cases(write(content + "expect = { result = { width = 30 } }"))
    with pytest.raises(AssertionError, match=r"result\.width  expected 30"):
        assert_case(Faces, case)


@pytest.mark.parametrize(
    "url",
    [
        "/policy/v1/service/configuration?local_alias=room",
        "https://policy.example.com/api/policy/v1/service/configuration?local_alias=room&x=1",
        "GET /policy/v1/service/configuration?local_alias=room HTTP/1.1",
    ],
)
def test_a_request_can_be_a_url_as_it_was_logged(write: Write, url: str) -> None:
    content = f"[[case]]\nname = 'it'\nurl = '{url}'\nexpect.result.name = 'Room'"
    (case,) = load_cases(write(content))
    assert_case(Toy, case)


def test_a_url_that_is_no_request_fails_its_case(write: Write) -> None:
    (case,) = load_cases(write('[[case]]\nname = "it"\nurl = "/policy/v2/service"\n'))
    with pytest.raises(AssertionError, match="url  expected a request of Infinity"):
        assert_case(Toy, case)


async def test_a_policy_that_serves_cannot_be_verified_elsewhere(write: Write) -> None:
    (case,) = load_cases(write(dialed("room")))
    async with make_policy(Toy).serving() as policy:
        with pytest.raises(TypeError, match="its own event loop"):
            assert_case(policy, case)


# ---- errors of the file


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[[case]]\nname = 'a'\n", "case 1 ('a'), endpoint: is missing; without it, write a"),
        ("[[case]]\nendpoint = 'media_location'\n", "case 1, name: is missing"),
        ("[[case]]\nname = ''\nendpoint = 'media_location'\n", "case 1 (''), name: "),
        ("[[case]]\nname = 'a'\nendpoint = 'media_locatoin'\n", "did you mean 'media_location'"),
        (dialed("a", more="expct = {}"), "case 1 ('a'), expct: unknown key; did you mean 'expect'"),
        (dialed("a", "{ acton = 'reject' }"), "expect.acton: unknown key; did you mean 'action'"),
        (dialed("a", "{ action = 'rejct' }"), "expect.action: should be 'continue', 'reject' or"),
        (dialed("a", "{ status = '200' }"), "expect.status: should be a whole number, not '200'"),
        (dialed("a", "{ decided_by = '' }"), "expect.decided_by:"),
        (dialed("a", "{ result = 'x' }"), "expect.result"),
        (dialed("a", more="shape = 'wbe'"), "('a'), shape: service_configuration has no shape"),
        (
            f"[[case]]\nname = 'a'\n{SERVICE}request = {{ local_alais = 'b' }}",
            "case 1 ('a'), request.local_alais: service_configuration has no such parameter; did",
        ),
        (
            f"[[case]]\nname = 'a'\n{SERVICE}request = {{ bandwidth = 1.5 }}",
            "request.bandwidth: Infinity sends no float",
        ),
        (
            f"[[case]]\nname = 'a'\n{AVATAR}request = {{ alias = '' }}",
            "request.alias: the alias in the path",
        ),
        (dialed("a", more="url = '/x'"), "case 1 ('a'), endpoint: leave it out: the url contains"),
        (dialed("a", more="url = '/x'"), "case 1 ('a'), request: leave it out: the url contains"),
        (dialed("a") + dialed("a"), "two cases have the name 'a'"),
        ("[[cases]]\nname = 'a'\n", "cases: unknown key; did you mean 'case'"),
        ("[case]\nname = 'a'\n", "case: write [[case]], with two brackets"),
        ("case = [1]", "case: write [[case]]"),
        ("[[case\n", "is not valid TOML: "),
        (f"a = {'9' * 5000}\n", "is not valid TOML: "),
    ],
)
def test_an_error_in_the_file_is_named_by_file_case_and_key(
    write: Write, content: str, said: str
) -> None:
    path = write(content)
    with pytest.raises(CasesError) as refused:
        load_cases(path)
    assert any(said in problem for problem in refused.value.problems), refused.value.problems
    assert str(refused.value).startswith(f"{path}: ")


def test_all_errors_of_a_file_are_reported_at_once(write: Write) -> None:
    bad = write("[[case]]\nname = 'a'\nx = 1\n\n" + dialed("b", "{ y = 1, z = 2 }"), "bad.toml")
    with pytest.raises(CasesError) as refused:
        load_cases(bad)
    keys = ["case 1 ('a'), x", "case 2 ('b'), expect.y", "case 2 ('b'), expect.z"]
    assert [p.split(":")[0] for p in refused.value.problems] == keys
    result = run(bad, write(PASSES))
    assert result.exit_code == 2
    assert f"{bad}: case 1 ('a'), x: unknown key" in result.stderr


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(CasesError, match=r"missing\.toml: cannot be read: No such file"):
        load_cases(str(missing))
    assert run(missing).exit_code == run().exit_code == 2
    (tmp_path / "latin.toml").write_bytes(b"# \xe6\n")
    with pytest.raises(CasesError, match="is not valid TOML"):
        load_cases(tmp_path / "latin.toml")


# ---- the command


def run(*arguments: str | Path, config: Path = live_server.SHIPPED) -> Result:
    return CliRunner().invoke(main, ["test", "--config", str(config), *map(str, arguments)])


PASSES = dialed("engineering", '{ decided_by = "rooms" }')
FAILS = dialed("sales", '{ result = { name = "Sails Room" } }')
DOMAINS = (
    '[[case]]\nname = "a device"\nendpoint = "registration_alias"\nexpect.action = "continue"\n'
)


def test_the_command_shows_each_case_the_difference_and_the_steps(write: Write) -> None:
    result = run(write(PASSES + FAILS))
    assert result.exit_code == 1
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "ok engineering rooms" in lines
    place = lines.index("FAIL sales")
    assert lines[place + 1 : place + 4] == [
        'result.name expected "Sails Room"',
        'got "Sales Room"',
        "steps (service_configuration):",
    ]
    assert lines[place + 4].startswith("rooms decided after ")
    assert lines[-1].startswith("1 passed, 1 failed in ")


def test_the_command_tells_which_plugins_were_never_asked(write: Write) -> None:
    result = run(write(PASSES))
    assert result.exit_code == 0
    table = [line.split() for line in result.stdout.splitlines()[-4:-1]]
    assert table == [
        ["plugin", "hook", "asked", "decided", "failed"],
        ["rooms", "service_configuration", "1", "1", "0"],
        ["domains", "registration_alias", "0", "0", "0", "never", "asked"],
    ]


def test_cases_are_chosen_by_a_part_of_their_name_in_several_files(write: Write) -> None:
    first, second = write(PASSES, "a.toml"), write(FAILS, "b.toml")
    result = run(first, second)
    assert result.exit_code == 1
    assert result.stdout.index("a.toml") < result.stdout.index("b.toml")
    assert run(first, second, "--only", "ENGINE").exit_code == 0
    for nothing, why in (
        (run(first, second, "-k", "marketing"), "of 2 in the files, none has 'marketing'"),
        (run(write("# nothing yet\n")), "of 0 in the files"),
    ):
        assert nothing.exit_code == 2
        assert f"no case ran: {why}" in nothing.stderr


def test_json_holds_cases_and_coverage(write: Write) -> None:
    result = run(write(PASSES + FAILS + DOMAINS), "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["passed"], told["failed"]) == (1, 2)
    assert [(c["name"], c["passed"], c["decided_by"]) for c in told["cases"]] == [
        ("engineering", True, "rooms"),
        ("sales", False, "rooms"),
        ("a device", False, "domains"),
    ]
    assert told["cases"][1]["differences"] == [
        {"key": "result.name", "expected": '"Sails Room"', "got": '"Sales Room"'}
    ]
    assert told["cases"][0]["steps"][0]["hook"] == ""
    assert told["cases"][0]["warnings"] == []
    assert told["coverage"][1] == {
        "plugin": "domains",
        "hook": "registration_alias",
        "asked": 1,
        "decided": 1,
        "failed": 0,
        "reasons": ["the domain is allowed to register"],
    }


def test_junit_holds_every_case_and_is_xml_whatever_is_in_a_name(
    write: Write, tmp_path: Path
) -> None:
    odd = '[[case]]\nname = "a\\u0007<b>&ö\\u001b[31m"\nurl = "/\\u0007"\n'
    report = tmp_path / "report.xml"
    result = run(write(PASSES + FAILS + odd), "--report", report)
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout
    assert "FAIL  a\ufffd<b>&ö\ufffd[31m" in result.stdout
    root = ET.fromstring(report.read_text(encoding="utf-8"))  # noqa: S314 - our own
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "2", "0")
    names = [case.get("name") for case in suite]
    assert names == ["engineering", "sales", "a\ufffd<b>&ö\ufffd[31m"]
    assert suite[0].find("failure") is None
    failure = suite[1].find("failure")
    assert failure is not None
    assert "Sails Room" in (failure.text or "")


def test_a_report_that_cannot_be_written_is_reported(write: Write, tmp_path: Path) -> None:
    result = run(write(PASSES), "--report", tmp_path / "missing" / "report.xml")
    assert result.exit_code == 2
    assert "cannot be read or written: No such file" in result.stderr


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        ("[plugins.romos]\n", 78, "mean 'rooms'"),
        ("", 0, "1 passed, 0 failed"),
    ],
)
def test_the_configuration_decides_what_is_asked(
    write: Write, tmp_path: Path, config: str, code: int, said: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(config)
    result = run(write(dialed("engineering")), config=path)
    assert result.exit_code == code
    assert said in result.output
