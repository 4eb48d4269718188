"""What viewers see where ``[privacy]`` hides personal data."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import live_console
from tests.support.live_console import LiveConsole, plugin_state, running_console
from tests.support.server_process import free_port
from tests.support.waiting import wait_until

CONFIG = """
[audit]
path = "audit.jsonl"

[admin]
port = {port}

[privacy]
personal = "dropped"

[plugins.rooms.settings.rooms."alice@example.com"]
name = "Studio"
{more}
"""


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveConsole]:
    config = tmp_path_factory.mktemp("privacy") / "config.toml"
    config.write_text(CONFIG.format(port=free_port(), more=""))
    with running_console(config) as running:
        yield running


def with_more(config: Path, more: str) -> None:
    """Replace the last line of the configuration."""
    *lines, _ = config.read_text().removesuffix("\n").split("\n")
    config.write_text("\n".join([*lines, more, ""]))


def test_errors_that_name_people_are_counted_for_viewers(console: LiveConsole) -> None:
    with_more(console.config, 'nam = "x"')
    for path in ("/changes", "/rooms", "/rules"):
        assert "alice@example.com" in console.log_in("operator").get(path).text, path
        page = console.log_in("viewer").get(path).text
        assert ("alice" in page, "1 not shown to viewers" in page) == (False, True), path


def test_failures_are_shown_where_requests_are_tried(console: LiveConsole) -> None:
    with_more(console.config, 'nam = "x"')
    console.log_in("operator")
    reply = console.get("/who?alias=x")
    assert (reply.status, "alice@example.com" in reply.text) == (200, True)
    reply = console.get("/try?request=x&parameters=nothing")
    alert = reply.text.rpartition('role="alert"')[2].partition("</div>")[0]
    assert (reply.status, "has no value" in alert, "--set" in alert) == (200, True, False)


def test_hidden_aliases_are_not_found_by_their_parts(console: LiveConsole) -> None:
    with_more(console.config, "")
    texts = ("ali", "example", "sip:Alice@example.com", "studi")
    pages: dict[str, str] = {}
    for role, found in (("operator", texts), ("viewer", ("sip:Alice@example.com", "studi"))):
        console.log_in(role)
        pages = {text: console.get(f"/rooms?text={text}").text for text in texts}
        assert tuple(text for text in texts if "Studio" in pages[text]) == found, role
    assert "alice" not in console.get("/rooms?text=studi").text


def test_privacy_applies_as_soon_as_it_is_written(console: LiveConsole) -> None:
    with_more(console.config, 'nam = "x"')
    text = console.config.read_text()
    for personal, hides in (("clear", False), ("dropped", True), ("droped", True)):
        console.config.write_text(text.replace('"dropped"', f'"{personal}"'))
        page = console.log_in("viewer").get("/changes").text
        assert ("alice@example.com" in page) != hides, personal
    console.config.write_text(text)


STATUS = live_console.status_document(
    config={"changes": ["rooms: added alice@example.com"], "problems": ["alice: wrong"]},
    plugins=[
        plugin_state(
            "rooms",
            problem="rooms.csv line 3: alice@example.com is there twice",
            data={"table": {"age": 3.0, "every": 60.0, "problem": "no alias alice"}},
            jobs={"sync": {"last_run_age": 1.0, "every": 60.0, "problem": "alice has left"}},
            failures=["alice"],
            status={"alice": 1},
        )
    ],
    sources=[plugin_state("people", failures=["no column for alice"])],
    name_problems=[
        {"problem": "'Blue' is not one of the themes", "at": ["rooms.alice"]},
        {"problem": "names are kept, as the new list is empty", "at": ["infinity.source"]},
    ],
)


def test_texts_of_the_server_that_name_people_are_hidden_from_viewers(console: LiveConsole) -> None:
    with_more(console.config, "")
    with live_console.admin_listener(console.config, {"/status": STATUS}):
        wait_until(lambda: "alice: wrong" in console.log_in("operator").get("/changes").text)
        for role, hides in (("operator", False), ("viewer", True)):
            console.log_in(role)
            for path in ("/changes", "/plugins", "/plugins/rooms"):
                assert ("alice" in console.get(path).text) != hides, (role, path)
            page = console.get("/plugins").text
            assert "Names of Infinity" in page
            assert ("the new list is empty" in page) != hides


def test_looks_at_aliases_and_conditions_are_recorded(console: LiveConsole) -> None:
    with_more(console.config, "")
    console.log_in("operator")
    for path in ("/rooms", "/rules"):
        console.get(f"{path}?text=ali")
        last = console.actions()[-1]
        assert (last["event"], last["path"], last["text"]) == ("view", path, "ali")
