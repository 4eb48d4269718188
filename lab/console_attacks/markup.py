"""Hostile texts in every parameter of real calls, and the pages that show them in a browser."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from playwright.sync_api import BrowserContext, Page

from lab.console_attacks.count import Count
from lab.console_attacks.payloads import payloads
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.request import parameters_of
from tests.support import browser, company

PAGE_SIZE = 100
SELECTORS = (
    *("x-hit", "script:not([src^='/static/'])", "svg script", "iframe", "object", "embed", "base"),
    *(
        "style",
        "math",
        "template",
        "meta[http-equiv]",
        "link[rel=stylesheet]:not([href^='/static/'])",
    ),
    *("[onerror]", "[onload]", "[onclick]", "[ontoggle]", "[onfocus]", "[srcdoc]"),
    *(
        "[data-hx-on\\:load]",
        "main [hx-get]:not([hx-select='#state'], [hx-target='#walk'])",
        "main img",
        "main body",
    ),
    *("[href^='javascript:' i]", "[src^='javascript:' i]", "[action^='javascript:' i]"),
    "[href^='data:']",
)
"""What no page of the console has."""
INJECTED = (
    "(selector) => [...document.querySelectorAll(selector)]"
    ".map(found => found.outerHTML.slice(0, 200)).concat(window.hit ? ['window.hit is set'] : [])"
)


def target(endpoint: str, text: str) -> str:
    """Return the URL of a call with a text in each parameter, and in the path."""
    names = [*parameters_of(ENDPOINTS[endpoint].request), "an_unknown_one"]
    path = ENDPOINTS[endpoint].path
    if path.endswith("/"):
        path += quote(text, safe="")
    return f"{path}?{urlencode(dict.fromkeys(names, text), errors='surrogatepass')}"


def send(running: company.Company, texts: Sequence[str]) -> Iterator[str]:
    """Send a call for each text; yield the path of its page."""
    endpoints = list(ENDPOINTS)
    seen = len(running.server.lines())
    for number, text in enumerate(texts):
        running.server.ask(target(endpoints[number % len(endpoints)], text))
        if number % PAGE_SIZE == PAGE_SIZE - 1 or number == len(texts) - 1:
            lines = running.server.lines()
            for line in lines[seen:]:
                if "decision_id" in line:
                    yield f"/decisions/{line['decision_id']}"
            seen = len(lines)


class Watch:
    """A page of a browser, and what went wrong on it."""

    def __init__(self, context: BrowserContext, count: Count) -> None:
        self.page: Page = context.new_page()
        self._count = count
        self._complaints: list[str] = []
        self.page.on("dialog", self._on_dialog)
        self.page.on("pageerror", lambda error: self._complaints.append(f"error: {error}"))
        self.page.on("console", lambda message: self._on_message(message.text))
        self.page.on("request", lambda request: self._on_request(request.url))

    def _on_dialog(self, dialog: object) -> None:
        self._complaints.append("a dialog")
        dialog.dismiss()  # type: ignore[attr-defined]  # of Playwright

    def _on_message(self, text: str) -> None:
        # The policy refuses what a page must not hold in the first place.
        if "Content Security Policy" in text:
            self._complaints.append(text)

    def _on_request(self, url: str) -> None:
        if urlsplit(url).hostname == "evil.example":
            self._complaints.append(f"a request to {url}")

    def look(self, path: str) -> None:
        """Open a page and count what is wrong."""
        self.page.goto(path, wait_until="load")
        self.judge(path)

    def judge(self, what: str) -> None:
        """Count what is wrong with the page that is open."""
        found = [*self._complaints, *self.page.evaluate(INJECTED, ", ".join(SELECTORS))]
        self._complaints.clear()
        self._count.add(bool(found), f"{what}: {found[:3]}")


def attack(folder: Path, texts: int, pages: int) -> Iterator[Count]:
    """Look at hostile texts in a browser, as an administrator."""
    folder.mkdir(exist_ok=True)
    with browser.chromium() as chromium, company.running(folder) as running:
        context = chromium.new_context(base_url=running.console.url)
        page = context.new_page()
        page.goto(f"/login?link={running.console.link()}")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_selector("nav")
        page.close()
        yield from _attack(running, context, texts, pages)


def _attack(
    running: company.Company, context: BrowserContext, texts: int, pages: int
) -> Iterator[Count]:
    """Send that many texts, look at that many pages of calls, at the list, at the live stream and
    at the pages that show what a URL holds.
    """
    calls = Count("texts in every parameter of a call: pages of calls and the list")
    live = Count("the live list while they arrive")
    urls = Count("texts in the URL and the forms of pages")
    hostile = list(payloads(texts))
    stream = Watch(context, live)
    stream.page.goto("/decisions")
    stream.page.get_by_text("Live", exact=True).wait_for()
    paths = []
    for path in send(running, hostile):
        paths.append(path)
        if len(paths) % PAGE_SIZE == 0:
            stream.page.wait_for_timeout(600)
            stream.judge(f"after {len(paths)} calls")
    stream.page.wait_for_timeout(600)
    stream.judge("at the end")
    stream.page.close()
    yield live
    watch = Watch(context, calls)
    for path in paths[:: max(1, len(paths) // pages)]:
        watch.look(path)
    watch.look("/decisions")
    while (older := watch.page.get_by_text("Older lines")).count():
        older.click()
        watch.page.wait_for_load_state()
        watch.judge(watch.page.url)
    watch.page.close()
    yield calls
    _reflect(context, urls, hostile[:: max(1, len(hostile) // (pages // 15 + 1))])
    yield urls


def _reflect(context: BrowserContext, count: Count, texts: Sequence[str]) -> None:
    watch = Watch(context, count)
    for text in texts:
        # A URL holds no lone surrogate, and Chromium no NUL in a path.
        word = quote(text.replace("\x00", ""), safe="")
        for path in (
            f"/decisions?alias={word}&reason={word}&action={word}&rule={word}&slower={word}",
            f"/decisions?since={word}&endpoint={word}&view={word}&before={word}",
            f"/decisions/{word}",
            f"/plugins/{word}",
            f"/rooms?text={word}",
            f"/rules?text={word}",
            f"/audit?since={word}",
            f"/try?request={word}&endpoint={word}&at={word}&parameters={word}",
            f"/login?link={word}",
            f"/login?to={word}",
            f"/login?to=%2F{word}",
            f"/who?alias=&at={word}&zone={word}",
        ):
            watch.look(path)
    for text in texts[:: max(1, len(texts) // 20)]:
        watch.look(f"/who?alias={quote(text, safe='')}&at=now")
        watch.page.goto("/try")
        watch.page.locator("[name=request]").fill(text)
        watch.page.get_by_role("button", name="Ask").click()
        watch.page.wait_for_load_state()
        watch.judge(f"asking {text!r}")
    watch.page.close()
