"""Six tasks of an operator in a real browser, each with few clicks."""

import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support import browser, company

pytestmark = pytest.mark.slow

MAX_CLICKS = 4
TIMEOUT_MS = 300_000
"""For what a page shows, on a machine with other work."""
CALLER = "sip:alice@example.com"
MIDNIGHT_IN_TOKYO = 1_795_014_000


class User(NamedTuple):
    """A page that counts what the user does."""

    page: Page
    company: company.Company
    clicks: list[str]

    def click(self, element: Locator) -> None:
        self.clicks.append(element.inner_text())
        element.click()

    def open(self, name: str) -> None:
        """Choose a page in the navigation."""
        self.click(self.page.locator("nav").get_by_role("link", name=name, exact=True))

    def type(self, label: str, text: str) -> None:
        """Fill a field in; reaching it counts as a click."""
        self.clicks.append(label)
        self.page.get_by_label(label).fill(text)

    def main(self) -> str:
        return self.page.inner_text("main")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], User]]:
    """Return what opens the console of a running company for a user who is logged in."""
    folder = tmp_path_factory.mktemp("tasks")
    with browser.chromium() as chromium, company.running(folder) as running:
        running.some_calls()
        running.server.ask("/not-a-policy-path")
        context = chromium.new_context(base_url=running.console.url)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        expect.set_options(timeout=TIMEOUT_MS)
        page.goto(f"/login?link={running.console.link('admin')}")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_selector("nav")
        for _ in range(300):
            # The refusal was written last.
            page.goto("/decisions?event=refused")
            if "unknown path" in page.inner_text("#decisions tbody"):
                break
            page.wait_for_timeout(200)

        def user() -> User:
            page.goto("/")
            return User(page, running, [])

        yield user
        context.close()


@pytest.fixture
def user(running: Callable[[], User]) -> Iterator[User]:
    one = running()
    yield one
    assert len(one.clicks) <= MAX_CLICKS, one.clicks


def test_which_rule_refused_this_caller(user: User) -> None:
    user.open("Decisions")
    user.type("Caller, room, address or decision", CALLER)
    user.page.keyboard.press("Enter")
    expect(user.page.locator("#decisions")).to_contain_text("rule Scanners: a scanner's user agent")


def test_which_room_an_alias_gets_at_night(user: User) -> None:
    user.open("Who gets what")
    user.type("Alias", "helpdesk@example.com")
    user.type("Time", "22:00 Europe/Oslo")
    user.page.keyboard.press("Enter")
    answers = user.page.get_by_label("Answers")
    expect(answers).to_contain_text("Help desk, closed")
    expect(answers).to_contain_text("rules.toml line")


def test_which_plugin_is_slow(user: User) -> None:
    user.open("Plugins")
    row = user.page.get_by_role("row").filter(has_text="rules")
    assert re.search(r"\d", row.locator("td").nth(5).inner_text()), row.inner_text()


def test_which_node_is_refused(user: User) -> None:
    user.open("Nodes")
    row = user.page.get_by_role("row").filter(has_text="refused: unknown path")
    assert "127.0.0.1" in row.inner_text()
    user.click(row.get_by_role("link", name="refused: unknown path"))
    expect(user.page.locator("#decisions tbody")).to_contain_text("unknown path")


def test_what_the_edited_file_would_change(user: User) -> None:
    rules = user.company.config.parent / "rules.toml"
    before = rules.read_text()
    rules.write_text(before.replace('"friendly-scanner", ', ""))
    try:
        user.open("Changes")
        user.click(user.page.get_by_role("button", name="Replay the last day"))
        changes = user.page.get_by_label("Changed answers")
        changes.wait_for()
        assert "rule Scanners" in changes.inner_text()
        assert "1 calls have another answer" in user.main()
        assert not browser.violations(user.page)
    finally:
        rules.write_text(before)


def test_what_a_file_that_is_not_in_force_would_change(user: User) -> None:
    config = user.company.config
    following = config.with_name("next.toml")
    following.write_text(config.read_text().replace('name = "Board"', 'name = "Boardroom"'))
    user.open("Changes")
    choice = user.page.locator("[name=file]")
    names = ["config.toml", "bookings.toml", "next.toml"]
    expect(choice.locator("option")).to_have_text(names)
    user.clicks.append("Configuration")
    choice.select_option("next.toml")
    user.click(user.page.get_by_role("button", name="Replay the last day"))
    changes = user.page.get_by_label("Changed answers")
    expect(changes).to_contain_text("Boardroom")
    following.unlink()


def test_a_caller_is_found_by_address_and_a_slow_plugin_by_its_calls(user: User) -> None:
    user.type("Caller, room, address or decision", "10.10.1.7")
    user.page.keyboard.press("Enter")
    user.click(user.page.get_by_role("link", name="Requests", exact=True))
    user.click(user.page.locator("#decisions tbody a").first)
    expect(user.page.locator("h1 + .story")).to_contain_text("media_location")


def test_the_zone_of_the_times_is_named(user: User) -> None:
    chromium = user.page.context.browser
    assert chromium is not None
    context = chromium.new_context(
        base_url=user.company.console.url, timezone_id="Asia/Tokyo", locale="en-US"
    )
    page = context.new_page()
    page.goto(f"/login?link={user.company.console.link('viewer')}")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("footer")).to_contain_text("Asia/Tokyo")
    context.close()


def test_hand_one_call_to_an_auditor(user: User) -> None:
    user.open("Decisions")
    user.click(user.page.locator("#decisions tbody a").last)
    with user.page.expect_download() as download:
        user.click(user.page.get_by_role("link", name="Lines of this call"))
    content = download.value.path().read_bytes()
    assert download.value.suggested_filename.endswith(".jsonl")
    written = user.company.server.audit.read_bytes().splitlines()
    lines = content.splitlines()
    assert lines
    assert all(line in written for line in lines)
    assert "hash" in json.loads(lines[0])
