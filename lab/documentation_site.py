"""The built documentation site in a browser: accessibility, weight, tasks, links.

``make prove-site`` builds it in ``build/site/html`` and runs these tests.
"""

import gzip
import mimetypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from playwright.sync_api import Browser, Page, Request

from tests.support import browser
from tests.support.paths import ROOT

SITE = ROOT / "build" / "site" / "html"
PAGES = (
    *("", "from-nothing-to-production/", "tasks/write-a-rule/", "concepts/", "operations/"),
    *("failures/", "settings/", "reference/", "shipped/rooms/", "plugins/hooks/"),
)
"""Those that differ most: pictures, wide tables, much code, long lists."""
MAX_BYTES = 300_000
"""Of a page with all that it loads, in an empty cache, compressed as web servers do."""
MAX_CLICKS = 2


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = SITE / unquote(urlsplit(self.path).path).lstrip("/")
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            self.send_error(404)
            return
        body = gzip.compress(path.read_bytes(), 6)
        self.send_response(200)
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        headers = {"Content-Type": kind, "Content-Encoding": "gzip", "Content-Length": len(body)}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@contextmanager
def _served() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as started:
        yield started


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with _served() as served:
        yield served


@contextmanager
def _page(chromium: Browser, theme: str = "light") -> Iterator[Page]:
    context = chromium.new_context(color_scheme="dark" if theme == "dark" else "light")
    try:
        yield context.new_page()
    finally:
        context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_breaks_no_rule_of_axe(chromium: Browser, url: str, path: str, theme: str) -> None:
    with _page(chromium, theme) as page:
        page.goto(url + path, wait_until="networkidle")
        scheme = page.evaluate("document.body.dataset.mdColorScheme")
        assert scheme == {"light": "default", "dark": "slate"}[theme]
        assert browser.violations(page) == []


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_light_and_loads_nothing_from_elsewhere(
    chromium: Browser, url: str, path: str
) -> None:
    loaded: list[float] = []
    elsewhere: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith((url, "data:", "blob:")):
            elsewhere.append(request.url)

    with _page(chromium) as page:
        page.on("request", note)
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        network.on(
            "Network.loadingFinished", lambda event: loaded.append(event["encodedDataLength"])
        )
        page.goto(url + path, wait_until="networkidle")
    assert elsewhere == []
    assert 0 < sum(loaded) < MAX_BYTES


def _tasks() -> Sequence[str]:
    """Return the title of each task in the navigation."""
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    tasks = next(entry["Tasks"] for entry in nav if "Tasks" in entry)
    return [title for entry in tasks for title in entry]


@pytest.mark.parametrize("title", _tasks())
def test_a_task_is_reached_from_the_front_page(chromium: Browser, url: str, title: str) -> None:
    with _page(chromium) as page:
        page.goto(url, wait_until="networkidle")
        clicks = 0
        links = page.get_by_role("article").get_by_role("link", name=title, exact=True)
        while page.url == url:
            links.first.click()
            clicks += 1
            assert clicks <= MAX_CLICKS
            page.wait_for_load_state("networkidle")
        assert page.get_by_role("heading", level=1).count() == 1


def test_there_are_eight_tasks() -> None:
    assert len(_tasks()) == 8


class _Links(HTMLParser):
    """The targets of a page, and its own anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value is not None and (tag, name) != ("base", "href"):
                self.targets.add(value)


def test_no_link_is_dead() -> None:
    pages = {path: _Links(path.read_text("utf-8")) for path in SITE.rglob("*.html")}
    dead = [
        (str(path.relative_to(SITE)), target)
        for path, links in pages.items()
        for target in links.targets
        if not _leads_somewhere(path, target, pages)
    ]
    assert len(pages) > 40
    assert dead == []


def _leads_somewhere(path: Path, target: str, pages: dict[Path, _Links]) -> bool:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return True
    start = SITE if parts.path.startswith("/") else path.parent
    aim = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
    aim = aim / "index.html" if aim.is_dir() else aim
    if not parts.fragment or not aim.is_file():
        return aim.is_file()
    return unquote(parts.fragment) in pages[aim].anchors or parts.fragment.startswith("__")
