"""Lines of plugins and libraries in the server's log."""

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from multidict import MultiDict

from pexpolicy import get_logger, hookimpl
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.log import LogHandler, LogLevels, ServerLog, capturing
from pexpolicy.models.context import hook_context
from pexpolicy.models.request import Request, set_call
from pexpolicy.testing import make_policy

MODULE_LOG = get_logger()


class Captured:
    """The handler, and the lines that came out."""

    def __init__(self, handler: LogHandler, stream: io.StringIO) -> None:
        self.handler = handler
        self._stream = stream

    def remove_other_handlers(self) -> None:
        """Remove those of pytest, which raise for a record that cannot be formatted."""
        logging.getLogger().handlers[:] = [self.handler]

    def lines(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._stream.getvalue().splitlines()]
        for line in lines:
            assert line.pop("timestamp").endswith("Z")
        return lines

    def line(self) -> dict[str, Any]:
        (line,) = self.lines()
        return line


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Captured]:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with capturing(ServerLog()) as handler:
        yield Captured(handler, stream)


def request(**params: str) -> Request:
    parsed: Request = ENDPOINTS["service_configuration"].parse(MultiDict(params), "")
    set_call(parsed, "0199-id", dry_run=False)
    return parsed


def test_a_line_of_logging_has_plugin_hook_and_decision_id(captured: Captured) -> None:
    with hook_context("vip", "service_configuration", request()):
        logging.getLogger("acme.vip").warning("%d rooms are left", 3)
    assert captured.line() == {
        "plugin": "vip",
        "hook": "service_configuration",
        "decision_id": "0199-id",
        "logger": "acme.vip",
        "event": "3 rooms are left",
        "level": "warning",
    }


def test_a_logger_of_pexpolicy_adds_fields_and_binds_others(captured: Captured) -> None:
    MODULE_LOG.bind(room="a").info("renewed %s", "today", entries=12)
    line = captured.line()
    assert (line["event"], line["room"], line["entries"]) == ("renewed today", "a", 12)
    assert (line["logger"], line["level"]) == (__name__, "info")


def test_a_logger_of_pexpolicy_is_one_of_logging(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("acme").warning("renewed", entries=12, room="a b")
    (record,) = caplog.records
    assert (record.name, record.getMessage()) == ("acme", "renewed entries=12 room='a b'")


def test_a_logger_of_structlog_writes_the_same_lines(captured: Captured) -> None:
    structlog.get_logger("acme").info("renewed", entries=12)
    line = captured.line()
    assert (line["event"], line["entries"], line["logger"]) == ("renewed", 12, "acme")


def test_a_field_of_a_plugin_does_not_replace_one_of_the_server(captured: Captured) -> None:
    with hook_context("vip", "status"):
        MODULE_LOG.info("x", plugin="other", decision_id="mine", level="high", timestamp="never")
    line = captured.line()
    assert (line["plugin"], line["level"]) == ("vip", "info")
    assert (line["plugin_"], line["decision_id_"], line["level_"]) == ("other", "mine", "high")


def test_levels_of_plugins_apply_to_the_libraries_that_they_call(captured: Captured) -> None:
    captured.handler.use(LogLevels(logging.INFO, {"vip": logging.DEBUG, "loud": logging.ERROR}))
    library = logging.getLogger("library")
    for plugin in ("vip", "loud", "other"):
        with hook_context(plugin, "status"):
            library.debug("debug")
            library.info("info")
            library.error("error")
    library.debug("debug")
    seen = [(line.get("plugin"), line["event"]) for line in captured.lines()]
    assert seen == [
        ("vip", "debug"),
        ("vip", "info"),
        ("vip", "error"),
        ("loud", "error"),
        ("other", "info"),
        ("other", "error"),
    ]


def test_a_line_outside_of_hooks_belongs_to_the_plugin_of_its_module(captured: Captured) -> None:
    captured.handler.use(LogLevels(modules={"acme_vip": "vip", "shared": "", "shared.a": "a"}))
    for name in ("acme_vip.refresh", "acme_vip", "shared.a.x", "shared.b", "acme", "acme_vipx"):
        logging.getLogger(name).info("x")
    plugins = [line.get("plugin") for line in captured.lines()]
    assert plugins == ["vip", "vip", "a", None, None, None]


def fail_twice() -> None:
    try:
        fail_with_a_secret()
    except ValueError as error:
        raise ExceptionGroup("two", [KeyError("k"), error]) from error


def fail_with_a_secret() -> None:
    pin = "4711" * 2
    raise ValueError(f"hunter2 has {len(pin)} digits")


def test_an_exception_has_its_traceback_without_variables_and_secrets(captured: Captured) -> None:
    with hook_context("vip", "service_configuration", request(third_party_passcode="hunter2")):
        try:
            fail_twice()
        except ExceptionGroup:
            MODULE_LOG.exception("the directory is down", entries=3)
    line = captured.line()
    assert line["error"].startswith("ExceptionGroup: two (2 sub-exceptions): KeyError: 'k'; Val")
    assert "hunter2" not in line["error"]
    assert 'raise ValueError(f"' in line["traceback"]
    assert "ValueError: *** has 8 digits" in line["traceback"]
    assert "KeyError" in line["traceback"]
    assert "hunter2 has" not in line["traceback"]
    assert "4711" not in line["traceback"].replace('"4711" * 2', "")


def test_a_traceback_is_written_once_a_minute_and_the_lines_always(captured: Captured) -> None:
    def renew(number: int) -> None:
        raise OSError(f"down {number}")

    def renew_elsewhere(number: int) -> None:
        raise OSError(f"down {number}")

    for number, fails in enumerate((renew, renew, renew, renew_elsewhere)):
        try:
            fails(number)
        except OSError:
            logging.getLogger("acme").exception("renewal failed")
    lines = captured.lines()
    assert ["traceback" in line for line in lines] == [True, False, False, True]
    assert all(line["error"].startswith("OSError") for line in lines)


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    "fields",
    [
        {"value": Broken()},
        {"value": {"inner": Broken()}},
        {"value": 2**70},
        {"value": "\ud800 alone"},
        {"value": {(1, 2): 3}},
        {"value": b"bytes"},
        {"value": float("nan")},
    ],
)
def test_any_value_gives_one_whole_line(captured: Captured, fields: dict[str, Any]) -> None:
    captured.remove_other_handlers()
    MODULE_LOG.info("x", **fields)
    assert captured.line()["event"] == "x"


def test_a_text_that_does_not_fit_its_arguments_is_one_line(captured: Captured) -> None:
    captured.remove_other_handlers()
    logging.getLogger("acme").info("%d rooms", "many")
    logging.getLogger("acme").info("%s", Broken())
    lines = captured.lines()
    assert [line["event"] for line in lines] == ["%d rooms", "%s"]
    assert all("cannot be formatted" in line["error"] for line in lines)


def test_a_line_that_cannot_be_written_fails_no_hook(captured: Captured) -> None:
    around: list[object] = []
    around.append(around)
    logging.getLogger("acme").info("renewed", extra={"entries": around})
    line = captured.line()
    assert line["event"] == "a line could not be logged"
    assert line["error"].startswith("ValueError")


def test_warnings_and_the_ends_of_threads_are_lines(captured: Captured) -> None:
    def fails() -> None:
        raise ValueError("in a thread")

    thread = threading.Thread(target=fails, name="renewal")
    thread.start()
    thread.join()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old name", DeprecationWarning, stacklevel=1)
    ended, warned = captured.lines()
    assert ended["event"] == "the thread renewal ended"
    assert ended["error"].startswith("ValueError: in a thread")
    assert "old name" in warned["event"]


def test_a_report_of_a_collected_task_is_blamed_on_no_plugin(captured: Captured) -> None:
    with hook_context("vip", "service_configuration", request()):
        logging.getLogger("asyncio").error("Task exception was never retrieved")
    assert "plugin" not in captured.line()


class First:
    @hookimpl
    async def media_location(self, request: Request) -> None:
        return None


class Second(First):
    pass


def test_a_module_with_several_plugins_belongs_to_none_of_them() -> None:
    both = {"plugins": {"first": {"log_level": "error"}}, "log": {"level": "debug"}}
    levels = make_policy([First, Second], config=both).log_levels
    assert levels.modules[__name__] == ""
    assert levels.plugins == {"first": logging.ERROR, "second": logging.DEBUG}
    assert make_policy(First).log_levels.modules[__name__] == "first"
