"""Chromium of Debian, driven by Playwright, and the accessibility rules of axe."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support import paths, programs

FLAGS = (
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
AXE = paths.ROOT / "tests/data/axe/axe-4.14.1.min.js"
_RULES = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser; leaves the test out where there is none."""
    path = programs.require("chromium")
    # Chromium has no sandbox for root.
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield browser
        finally:
            browser.close()


def violations(page: Page) -> list[str]:
    """Return each violation of a rule of axe, with the elements.

    The script is evaluated by the debugger, to which the content security policy does not apply.
    """
    page.evaluate(AXE.read_text())
    found: Sequence[Any] = page.evaluate(_RULES)
    return [
        f"{rule['id']}: {rule['help']}: {', '.join(str(n['target']) for n in rule['nodes'])}"
        for rule in found
    ]
