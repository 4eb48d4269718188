"""Failed comparisons of decisions in the tests of an author: pytest names the fields."""

import subprocess
import sys

import pytest

TESTS = """
from pexpolicy import Conference, Reject
from pexpolicy.fields import AutomaticParticipant

ROOM = Conference(name="Garden", service_tag="", pin="471147", view="five_mains_seven_pips")

def participant(dtmf):
    return AutomaticParticipant(
        local_alias="a", remote_alias="b", protocol="sip", role="guest", dtmf_sequence=dtmf
    )

def test_order():
    assert ROOM == Conference(
        view="five_mains_seven_pips", pin="471147", service_tag="", name="Garden"
    )

def test_values():
    assert ROOM == Conference(name="Gordon", service_tag="", pin="471147", locked=True)

def test_secrets():
    assert ROOM == Conference(
        name="Garden", service_tag="", pin="815815", guest_pin="474747",
        view="five_mains_seven_pips",
    )

def test_nested_secrets():
    one, other = (
        Conference(name="a", service_tag="", automatic_participants=[participant(dtmf)])
        for dtmf in ("123987", "456987")
    )
    assert one == other

def test_classes():
    assert ROOM == Reject(reason="x")

def test_others():
    assert ROOM == 5
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("author")
    (folder / "test_rooms.py").write_text(TESTS)
    plugins = ("no:pexpolicy", "pexpolicy.models.pytest_plugin", "no:cacheprovider")
    options = [part for name in plugins for part in ("-p", name)]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--tb=short", str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "5 failed, 1 passed" in result.stdout, result.stdout
    return result.stdout


@pytest.mark.parametrize(
    "line",
    [
        "name: 'Garden' != 'Gordon'",
        "view: 'five_mains_seven_pips' != unset",
        "locked: unset != True",
        "pin: the values differ, and are not shown because they may be secret",
        "guest_pin: unset != ***",
        "automatic_participants: the values differ, and are not shown because they may be secret",
        "Conference is not a Reject",
    ],
)
def test_each_field_that_differs_has_a_line(output: str, line: str) -> None:
    assert line in output


def test_neither_equal_fields_nor_secrets_are_shown(output: str) -> None:
    assert "service_tag: " not in output
    shown = "".join(line for line in output.splitlines() if line.startswith("E "))
    assert shown
    for secret in ("471147", "815815", "474747", "123987", "456987"):
        assert secret not in shown
