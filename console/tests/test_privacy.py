"""What viewers see where ``[privacy]`` hides personal data."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_console import LiveConsole, running_console
from tests.support.server_process import free_port

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
    for path in ("/configuration", "/rooms", "/rules"):
        assert "alice@example.com" in console.log_in("operator").get(path).text, path
        page = console.log_in("viewer").get(path).text
        assert ("alice" in page, "1 not shown to viewers" in page) == (False, True), path


def test_failures_are_shown_where_requests_are_tried(console: LiveConsole) -> None:
    with_more(console.config, 'nam = "x"')
    console.log_in("operator")
    reply = console.get("/who?alias=x")
    assert (reply.status, "alice@example.com" in reply.text) == (200, True)
    reply = console.post("/try", {"request": "x", "parameters": "nothing"})
    alert = reply.text.partition('role="alert"')[2].partition("</div>")[0]
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
