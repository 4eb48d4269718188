"""The pages where a configuration has many rooms, rules and errors, and no server runs."""

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_console import LiveConsole, running_console
from tests.support.server_process import free_port

COUNT = 1000
MAX_COMPRESSED = 60 * 1024
CONFIG = """
[audit]
path = "audit.jsonl"

[admin]
port = {port}

[plugins.rooms.settings]
csv = "rooms.csv"

[plugins.rules.settings]
files = ["rules.toml"]
"""
RULE = """
[[rules]]
name = "Rule {number}"
endpoint = "service_configuration"
when.local_alias = "room{number}@example.com"
then = "reject"
"""


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveConsole]:
    folder: Path = tmp_path_factory.mktemp("many")
    rooms = "".join(f"room{n}@example.com,Room {n}\n" for n in range(COUNT))
    (folder / "rooms.csv").write_text(f"aliases,name\n{rooms}")
    (folder / "rules.toml").write_text("".join(RULE.format(number=n) for n in range(COUNT)))
    config = folder / "config.toml"
    config.write_text(CONFIG.format(port=free_port()))
    with running_console(config) as running:
        yield running.log_in()


@pytest.mark.parametrize("path", ["/rooms", "/rules"])
def test_a_long_list_is_shown_in_parts(console: LiveConsole, path: str) -> None:
    page = console.get(path)
    assert f"{COUNT:,} " in page.text
    assert len(re.findall("<tr", page.text)) == 101
    assert len(zlib.compress(page.body)) < MAX_COMPRESSED
    (following,) = re.findall(r'href="([^"]+)">Next', page.text)
    second = console.get(following.replace("&amp;", "&")).text
    assert ("101 to 200" in second, ">Previous" in second) == (True, True)
    last = console.get(f"{path}?skip={COUNT - 100}").text
    assert (">Next" in last, len(re.findall("<tr", last))) == (False, 101)
    assert len(re.findall("<tr", console.get(f"{path}?text=room999%40example.com").text)) == 2


def test_of_many_errors_the_first_are_shown(console: LiveConsole) -> None:
    right = console.config.read_text()
    console.config.write_text(right + "".join(f"[unknown{n}]\n" for n in range(COUNT)))
    try:
        page = console.get("/changes").text
    finally:
        console.config.write_text(right)
    assert len(re.findall('<li class="warn', page)) == 50
    assert f"{COUNT - 50:,} more: <code>pexpolicy check</code> shows all." in page


@pytest.mark.parametrize("path", ["/rooms", "/rules"])
def test_a_page_after_the_last_one_says_so(console: LiveConsole, path: str) -> None:
    page = console.get(f"{path}?skip={5 * COUNT}").text
    assert ("There are no more." in page, "No plugin has" in page) == (True, False)
