"""Reports of exceptions: source lines, causes, groups, the line of the plugin, no secrets."""

import asyncio
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

from pexpolicy import Conference, DecisionError
from pexpolicy.errors import MAX_EXCEPTIONS, MAX_REFUSAL, ErrorReport, describe_error
from pexpolicy.models.request import redact


def load(folder: Path, name: str, source: str) -> ModuleType:
    file = folder / f"{name}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    module = ModuleType(name)
    exec(compile(source, str(file), "exec"), vars(module))  # noqa: S102 - a plugin of this test
    return module


def caught(call: object, *secrets: str) -> ErrorReport:
    try:
        call()  # type: ignore[operator]
    except BaseException as error:  # noqa: BLE001 - handed to the code under test
        # The frame of this function would be the first code outside the package.
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        return describe_error(error, secrets)
    raise AssertionError


def test_a_server_that_is_down_is_reported_without_a_place_in_the_code(tmp_path: Path) -> None:
    plugin = load(tmp_path, "ask", "def ask():\n    raise ConnectionError('old: no answer')\n")
    report = caught(plugin.ask)
    assert (report.summary, report.lines) == ("ConnectionError: old: no answer", [])


def test_the_traceback_has_source_lines_and_causes(tmp_path: Path) -> None:
    plugin = load(
        tmp_path,
        "rooms",
        "def find():\n"
        "    try:\n"
        "        return {}['x']\n"
        "    except KeyError as error:\n"
        "        raise LookupError('no room') from error\n",
    )
    report = caught(plugin.find)
    file = tmp_path / "rooms.py"
    assert report.summary == "LookupError: no room (rooms.py:5)"
    assert report.kind == "LookupError"
    assert report.lines == [
        f"{file}:5 in find",
        "    raise LookupError('no room') from error",
        "after KeyError: 'x'",
        f"  {file}:3 in find",
        "      return {}['x']",
    ]
    assert report.traceback == "\n".join(report.lines)


def test_each_exception_of_a_group_is_in_the_traceback() -> None:
    def fails() -> None:
        inner = ExceptionGroup("inner", [OSError("two")])
        raise ExceptionGroup("several", [ValueError("one"), inner])

    text = caught(fails).traceback
    assert "with ValueError: one" in text
    assert "with ExceptionGroup: inner (1 sub-exception)" in text
    assert "  with OSError: two" in text


def test_an_exception_that_was_being_handled_is_in_the_traceback() -> None:
    def fails(*, hidden: bool) -> None:
        try:
            int("x")
        except ValueError:
            if hidden:
                raise ValueError("y") from None
            raise ValueError("y")  # noqa: B904 - the context is under test

    assert "after ValueError: invalid literal" in caught(lambda: fails(hidden=False)).traceback
    lines = caught(lambda: fails(hidden=True)).lines
    assert not any(line.startswith("after") for line in lines)


def test_a_traceback_of_many_exceptions_is_bounded() -> None:
    def fails() -> None:
        raise ExceptionGroup("many", [ValueError(str(number)) for number in range(100)])

    lines = caught(fails).lines
    assert sum("with ValueError" in line for line in lines) == MAX_EXCEPTIONS - 1
    assert lines[-1] == "further exceptions are left out"


def test_exceptions_that_cause_each_other_end() -> None:
    def fails() -> None:
        one, two = ValueError("one"), ValueError("two")
        one.__cause__, two.__cause__ = two, one
        raise one

    assert caught(fails).traceback.count("after ") == 1


def test_secrets_are_removed_from_every_message_in_any_case() -> None:
    def fails() -> None:
        try:
            int("Hunter2")
        except ValueError as error:
            raise LookupError("no hunter2 here") from error

    report = caught(fails, "hunter2")
    assert report.summary.startswith("LookupError: no *** here")
    assert "with base 10: '***'" in report.traceback
    assert "unter2'" not in report.traceback.replace('"Hunter2"', "")


def test_a_secret_that_is_the_beginning_of_another_leaves_no_rest_of_it() -> None:
    report = describe_error(RuntimeError("4711 and 471123"), ["4711", "471123"])
    assert report.summary == "RuntimeError: *** and ***"


def test_a_text_with_many_secrets_is_left_out_as_a_whole() -> None:
    many = [f"{number:06}" for number in range(3000)]
    assert redact(" ".join(many[:50]), many) == " ".join(["***"] * 50)
    assert redact(" ".join(many), many) == "***"


def test_the_report_of_another_process_loses_the_secrets_too() -> None:
    error = RuntimeError()
    error.fault = ErrorReport("KeyError: 'hunter2'", ["KeyError: 'hunter2'"])  # type: ignore[attr-defined]
    report = describe_error(error, ["hunter2"])
    assert (report.summary, report.lines) == ("KeyError: '***'", ["KeyError: '***'"])


def test_the_report_of_another_process_is_shortened() -> None:
    error = RuntimeError()
    error.fault = ErrorReport("x" * 1_000_000, [])  # type: ignore[attr-defined]
    assert len(describe_error(error).summary) <= MAX_REFUSAL + 1


@pytest.mark.parametrize("packaged", [True, False])
def test_the_line_that_is_named_is_that_of_the_plugin_not_of_a_library(
    tmp_path: Path, packaged: bool
) -> None:
    site = tmp_path / "site-packages"
    library = load(
        site / "driver", "driver.connection", "def connect():\n    raise OSError('down')\n"
    )
    source = "def ask():\n    return look_up()\n\ndef look_up():\n    connect()\n"
    plugin = load(site / "acme_rooms" if packaged else tmp_path, "acme_rooms.plugin", source)
    plugin.connect = library.connect  # type: ignore[attr-defined]
    report = caught(plugin.ask)
    assert report.place == "acme_rooms.plugin.py:5"
    assert "driver.connection.py:2" in report.traceback


class Person(BaseModel):
    """What the API of a plugin answers."""

    name: str
    age: int


def test_an_error_of_pydantic_is_one_line_without_values() -> None:
    with pytest.raises(ValueError, match="name") as raised:
        Person.model_validate({"age": "private"})
    summary = describe_error(raised.value).summary
    assert summary.startswith("ValidationError: Person.name: Field required; Person.age: Input ")
    assert "private" not in summary
    assert "\n" not in summary


def test_a_message_of_several_lines_becomes_one() -> None:
    assert describe_error(ValueError("first\n  second")).summary == "ValueError: first second"


def test_the_line_of_a_group_names_its_members_without_secrets_and_values() -> None:
    def fails() -> None:
        with pytest.raises(DecisionError) as refused:
            Conference(name="Board", service_tag="board", pin="no digits")
        inner = ExceptionGroup("inner", [OSError("hunter2 is wrong")])
        raise ExceptionGroup("several", [inner, refused.value])

    text = caught(fails, "hunter2").summary
    inner = "ExceptionGroup: inner (1 sub-exception): OSError: *** is wrong"
    assert text.startswith(f"ExceptionGroup: several (2 sub-exceptions): {inner}; Conference.pin: ")
    assert "no digits" not in text


def test_asyncio_in_a_plain_function_is_told_to_need_a_coroutine() -> None:
    text = caught(asyncio.get_running_loop).summary
    assert text == "RuntimeError: no running event loop"
