"""Each kind of attack on the console finds nothing; the browser finds what is planted."""

from pathlib import Path

from lab.console_attacks import run
from lab.console_attacks.count import Count
from lab.console_attacks.markup import Watch
from lab.console_attacks.payloads import payloads
from tests.support import browser


def test_texts_of_calls_become_no_markup(tmp_path: Path) -> None:
    for count in run.with_markup(tmp_path, 60, 12):
        assert count.tried, str(count)
        assert not count.found, str(count)


def test_requests_of_no_user_do_nothing(tmp_path: Path) -> None:
    for count in run.with_requests(tmp_path, 120, 60):
        assert count.tried, str(count)
        assert not count.found, str(count)


def test_no_page_and_no_file_holds_a_secret(tmp_path: Path) -> None:
    for count in run.with_secrets(tmp_path / "secrets"):
        assert count.tried > 1000
        assert not count.found, str(count)


def test_the_browser_notices_markup_that_is_not_escaped() -> None:
    """Without the policy of the console, and without escaping."""
    noticed = Count("planted")
    with browser.chromium() as chromium:
        watch = Watch(chromium.new_context(), noticed)
        for text in payloads(200):
            watch.page.set_content(f"<main><p>{text}</p></main>")
            watch.judge(text)
    assert len(noticed.found) > 80
