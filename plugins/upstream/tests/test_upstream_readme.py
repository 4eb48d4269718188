"""What the README of the plugin shows, tried: its first example, its tables and its log line."""

import re
import shlex
import tomllib
from pathlib import Path

from pexpolicy.config.schema.server import AdminTable
from tests.support import doc_pages, live_server

README = live_server.ROOT / "plugins" / "upstream" / "README.md"


def test_the_first_example_gives_the_reply_that_is_shown(tmp_path: Path) -> None:
    bookings, ours = (text for language, text in doc_pages.blocks(README)[:2] if language == "toml")
    assert AdminTable().port != AdminTable(**tomllib.loads(bookings)["admin"]).port
    asked = next(text for _, text in doc_pages.blocks(README) if text.startswith("curl"))
    target = shlex.split(asked)[1].removeprefix("http://127.0.0.1:8000")
    (tmp_path / "bookings.toml").write_text(bookings)
    with live_server.running(tmp_path / "bookings.toml") as first:
        (tmp_path / "config.toml").write_text(ours.replace("http://127.0.0.1:8001", first.url))
        with live_server.running(tmp_path / "config.toml") as second:
            reply = second.ask(target).body.decode()
    assert doc_pages.normalize(reply) == doc_pages.normalize(doc_pages.block(README, "json"))


def test_the_log_line_that_is_shown_has_the_form_of_one() -> None:
    documented = doc_pages.block(README, "text").strip()
    assert re.fullmatch(
        r"service_configuration: old and new differ: .+ \(call [0-9a-f]+\)", documented
    )
