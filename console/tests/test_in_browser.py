"""The pages in a real browser: accessibility, narrow windows, keyboard, roles and secrets."""

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize

from tests.support import browser, company, live_console
from tests.support.server_process import free_port
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.slow

PATHS = (
    "/",
    "/decisions",
    "/try",
    "/try?endpoint=participant_properties",
    "/who?alias=board@example.com",
    "/rooms",
    "/rules",
    "/plugins",
    "/plugins/rules",
    "/nodes",
    "/changes",
    "/changes/reload",
    "/servers",
    "/blocks",
    "/blocks?kind=caller&alias=alice@example.com",
    "/audit",
)
SECRETS = ("482913", "170356", "551204")
"""The PINs of the example."""
MAX_COMPRESSED = 60 * 1024
WIDE: ViewportSize = {"width": 1440, "height": 900}
NARROW: ViewportSize = {"width": 360, "height": 740}


class Setup(NamedTuple):
    company: company.Company
    browser: Browser

    def context(self, role: str, *, script: bool = True) -> BrowserContext:
        context = self.browser.new_context(
            base_url=self.company.console.url, java_script_enabled=script
        )
        context.set_default_timeout(HANG_S * 1000)
        page = context.new_page()
        page.goto(f"/login?link={self.company.console.link(role)}")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_selector("nav")
        page.close()
        return context


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with (
        browser.chromium() as chromium,
        company.running(tmp_path_factory.mktemp("browser")) as running,
    ):
        running.some_calls()
        yield Setup(running, chromium)


def complaints_in_each_theme(page: Page) -> Iterator[str]:
    """What axe finds in light, dark and forced colours, in a wide and in a narrow window."""
    for size in (WIDE, NARROW):
        width = size["width"]
        page.set_viewport_size(size)
        page.emulate_media(color_scheme="light", forced_colors="none")
        yield from (f"{width} pixels: {text}" for text in browser.violations(page))
    page.emulate_media(color_scheme="dark")
    yield from (f"dark: {text}" for text in browser.violations(page, browser.COLOURS))
    page.emulate_media(color_scheme="light", forced_colors="active")
    yield from (f"forced: {text}" for text in browser.violations(page, browser.COLOURS))
    if page.evaluate("document.documentElement.scrollWidth") > NARROW["width"]:
        yield f"wider than {NARROW['width']} pixels"


def test_each_page_is_accessible_small_and_without_secrets(setup: Setup) -> None:
    context = setup.context("admin")
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{page.url}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    decided = setup.company.server.lines()[0]["decision_id"]
    for path in (*PATHS, "/decisions?alias=board&action=reject", f"/decisions/{decided}"):
        reply = page.goto(path, wait_until="load")
        assert reply is not None
        assert reply.status == 200, path
        if path == "/decisions":
            # The index has read the calls.
            page.locator("tbody tr[data-id]").nth(7).wait_for()
        content = page.content()
        complaints += [f"{path} has {secret}" for secret in SECRETS if secret in content]
        assert len(zlib.compress(content.encode())) < MAX_COMPRESSED
        complaints += [f"{path}, {text}" for text in complaints_in_each_theme(page)]
    context.close()
    assert not complaints


def test_pages_without_a_server_and_without_calls_are_accessible(
    setup: Setup, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[audit]\npath = "audit.jsonl"\n\n[admin]\nport = {free_port()}\n')
    complaints: list[str] = []
    with live_console.running_console(config) as console:
        context = setup.browser.new_context(base_url=console.url, viewport=NARROW)
        context.set_default_timeout(HANG_S * 1000)
        page = context.new_page()
        page.goto(f"/login?link={console.link()}")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_selector("main")
        for path in ("/", "/decisions", "/rooms", "/rules", "/plugins", "/nodes", "/audit"):
            page.goto(path)
            assert page.inner_text(".fresh").startswith("Stopped")
            assert "does not answer" in page.inner_text("#band [role=alert]")
            complaints += [f"{path}: {text}" for text in browser.violations(page)]
            if page.evaluate("document.documentElement.scrollWidth") > NARROW["width"]:
                complaints.append(f"{path} is wider than {NARROW['width']} pixels")
        page.goto("/changes")
        assert "Unknown while the server does not answer" in page.inner_text("main")
        context.close()
    assert not complaints


def test_a_rule_that_refused_a_caller_is_found_by_what_the_caller_sent(setup: Setup) -> None:
    context = setup.context("operator")
    page = context.new_page()
    page.goto("/try")
    page.locator("[name=request]").fill("board@example.com")
    page.get_by_text("Other values of parameters").click()
    page.locator("[name=parameters]").fill("vendor=friendly-scanner")
    page.get_by_role("button", name="Ask").click()
    answer = page.get_by_label("Answer")
    assert "rule Scanners" in answer.inner_text()
    assert "rules.toml line 3" in answer.inner_text()
    assert not browser.violations(page)
    context.close()


def test_text_of_a_caller_is_text(setup: Setup) -> None:
    hostile = "<img src=x onerror=alert(1)>\u202e{{7*7}}"
    context = setup.context("operator")
    page = context.new_page()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    page.goto(f"/who?alias={hostile}")
    assert page.locator("main img").count() == 0
    assert "\u202e" not in re.sub(r'value="[^"]*"', "", page.inner_text("main"))
    page.goto(f"/rooms?text={hostile}")
    assert page.locator("main img").count() == 0
    assert not dialogs
    context.close()


def test_a_page_is_readable_without_script(setup: Setup) -> None:
    context = setup.context("viewer", script=False)
    page = context.new_page()
    for path, words in (
        ("/rules", "friendly-scanner"),
        ("/rooms", "Engineering"),
        ("/plugins", "rooms"),
        ("/nodes", "10.44.0.2"),
        ("/audit", "audit.jsonl"),
    ):
        page.goto(path)
        assert words in page.inner_text("main"), path
    context.close()


def test_roles_reach_their_pages_only(setup: Setup) -> None:
    console = setup.company.console
    for role, forbidden in (
        ("viewer", ("/try", "/who", "/audit/download", "/changes/reload", "/changes/back")),
        ("operator", ("/changes/reload", "/changes/back")),
    ):
        console.log_in(role)
        assert [console.get(path).status for path in forbidden] == [403] * len(forbidden)
        assert console.post("/changes/reload").status == 403
    console.log_in("viewer")
    assert console.post("/audit/verify").status == 403


def test_an_admin_reloads_after_a_confirmation_that_says_what_changes(setup: Setup) -> None:
    config = setup.company.config
    context = setup.context("admin")
    page = context.new_page()
    page.goto("/changes")
    assert "the same as in force" in page.inner_text("main")
    config.write_text(config.read_text().replace('"Engineering"', '"Research"'))
    page.goto("/changes")
    page.get_by_role("link", name="Reload").click()
    page.get_by_role("button", name="Reload now").click()
    page.wait_for_selector("main [role=status]")
    assert "reloaded (" in page.inner_text("main [role=status]")
    assert "the same as in force" in page.inner_text("main")
    assert any(line["event"] == "reload" for line in setup.company.console.actions())
    context.close()


def test_the_page_names_what_the_last_reload_changed(setup: Setup) -> None:
    config = setup.company.config
    config.write_text(config.read_text().replace('name = "Town hall"', 'name = "Assembly"'))
    context = setup.context("admin")
    page = context.new_page()
    row = page.locator("#change").get_by_role("row").filter(has_text="Assembly")
    for _ in range(300):
        page.goto("/changes")
        # The files are kept after the reload.
        if row.count():
            break
        page.wait_for_timeout(100)
    assert "Town hall" in row.inner_text()
    context.close()


def test_the_audit_is_verified_and_downloaded(setup: Setup) -> None:
    console = setup.company.console
    console.log_in("operator")
    console.post("/audit/verify")
    context = setup.context("operator")
    page = context.new_page()
    for _ in range(100):
        page.goto("/audit")
        with suppress(AssertionError):
            assert "Verifying" not in page.inner_text("main")
            break
        page.wait_for_timeout(100)
    assert "no fault" in page.inner_text("main")
    context.close()
    lines = gzip.decompress(console.get("/audit/download?since=today").body)
    assert lines == setup.company.server.audit.read_bytes()[: len(lines)]
    assert lines.count(b'"event":"decision"') >= 12


REFRESH = """
() => htmx.ajax("GET", "/", {target: "#state", select: "#state", swap: "outerHTML"}).catch(() => 0)
"""
"""What the page does by itself every ten seconds."""


def test_a_part_that_is_loaded_again_keeps_the_focus_or_says_that_it_is_old(setup: Setup) -> None:
    context = setup.context("viewer")
    page = context.new_page()
    page.goto("/")
    page.get_by_text("The same as a table").click()
    page.keyboard.press("j")
    page.evaluate(REFRESH)
    page.wait_for_function("!document.querySelector('.htmx-request')")
    focused = "document.activeElement.closest('#state tbody tr.current') !== null"
    assert page.evaluate(focused)
    page.route("**/*", lambda route: route.abort())
    page.evaluate(REFRESH)
    page.wait_for_selector(".old[role=alert]:has-text('Not up to date since')")
    page.unroute("**/*")
    page.evaluate(REFRESH)
    page.wait_for_selector(".old", state="detached")
    context.close()


def test_a_half_saved_file_leaves_the_pages_on_what_is_in_force(setup: Setup) -> None:
    console, config = setup.company.console.log_in(), setup.company.config
    before = config.read_text()
    config.write_text(before.replace("priority = 15", 'priority = "soon"', 1))
    try:
        for path, words in (
            ("/rooms", "Board"),
            ("/rules", "Scanners"),
            ("/who?alias=board@example.com", "Board"),
            ("/try?request=board@example.com", "Decided by"),
        ):
            page = console.get(path).text
            assert words in page, path
            assert "The files on the disk have errors" in page, path
        assert "soon" in console.get("/changes").text
    finally:
        config.write_text(before)
    assert "The files on the disk have errors" not in console.get("/rooms").text


def test_an_ended_session_leads_back_and_what_was_typed_is_kept(setup: Setup) -> None:
    context = setup.context("operator")
    page = context.new_page()
    page.goto("/try?endpoint=service_configuration")
    page.locator("[name=request]").fill("board@example.com")
    cookies = context.cookies()
    context.clear_cookies()
    page.evaluate("poll()")
    page.get_by_role("link", name="Log in again").click()
    page.wait_for_url("**/login?to=*")
    context.add_cookies(
        [{"name": c["name"], "value": c["value"], "url": page.url} for c in cookies]
    )
    page.goto("/try?endpoint=service_configuration")
    assert page.locator("[name=request]").input_value() == "board@example.com"
    context.close()


def test_rows_wait_while_one_is_pointed_at(setup: Setup) -> None:
    context = setup.context("viewer")
    page = context.new_page()
    page.goto("/decisions")
    page.wait_for_selector(".fresh:has-text('Live')")
    first = page.locator("#decisions tbody tr").first
    first.hover()
    before = first.inner_text()
    setup.company.call("service_configuration", local_alias="held@example.com", request_id="held")
    button = page.get_by_role("button", name="newer call")
    button.wait_for()
    assert first.inner_text() == before
    button.click()
    page.wait_for_selector("#decisions tbody tr:first-child:has-text('held@example.com')")
    context.close()


def test_the_selected_call_stands_next_to_a_wide_list(setup: Setup) -> None:
    context = setup.context("operator")
    page = context.new_page()
    page.set_viewport_size({"width": 2560, "height": 1200})
    page.goto("/decisions")
    row = page.locator("#decisions tbody tr[data-id]").first
    row.locator(".time a").click()
    selected = page.get_by_label("The selected call")
    selected.get_by_role("heading", name="Steps").wait_for()
    assert page.url.endswith("/decisions")
    assert row.get_attribute("aria-current") == "true"
    assert not browser.violations(page)
    page.set_viewport_size(WIDE)
    row.locator(".time a").click()
    page.wait_for_url("**/decisions/*")
    context.close()


def test_changes_are_marked_in_a_chart_of_calls(setup: Setup) -> None:
    context = setup.context("viewer")
    page = context.new_page()
    page.goto("/changes")
    chart = page.get_by_label("Calls over time")
    chart.get_by_role("slider").first.wait_for()
    chart.get_by_role("link", name="14 days").click()
    page.locator("nav [aria-current]", has_text="14 days").wait_for()
    assert page.url.endswith("/changes")
    assert not browser.violations(page)
    context.close()


def test_a_chosen_theme_is_there_before_the_page(setup: Setup) -> None:
    context = setup.context("viewer")
    page = context.new_page()
    page.goto("/nodes")
    page.locator("header .account summary").click()
    page.get_by_role("button", name="Dark").click()
    page.route("**/console.js", lambda route: route.abort())
    page.goto("/nodes")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    # Paper is white.
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").first.is_visible()
    context.close()


def test_a_link_of_another_site_leads_to_its_page(setup: Setup) -> None:
    context = setup.context("viewer")
    page = context.new_page()
    link = f'<a href="{setup.company.console.url}/decisions?action=reject">a call</a>'
    page.route(
        "http://mail.example/", lambda route: route.fulfill(body=link, content_type="text/html")
    )
    page.goto("http://mail.example/")
    page.get_by_text("a call").click()
    page.get_by_role("link", name="Open its page").click()
    page.wait_for_url("**/decisions?action=reject")
    assert "Scanners" in page.inner_text("main")
    context.close()
