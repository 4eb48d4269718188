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
COLOURS = ("color-contrast", "link-in-text-block")
"""The rules of axe that depend on the colours; the others see the same in each theme."""
_RUN = """
async (rules) => {
  const options = {resultTypes: ['violations'], ...(rules && {runOnly: rules})};
  return (await axe.run(document, options)).violations;
}
"""


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


def violations(page: Page, rules: Sequence[str] | None = None) -> list[str]:
    """Return each violation of these rules of axe, or of all of them, with the elements.

    The script is evaluated by the debugger, to which the content security policy does not apply.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    found: Sequence[Any] = page.evaluate(_RUN, rules)
    return [
        f"{rule['id']}: {rule['help']}: {', '.join(str(n['target']) for n in rule['nodes'])}"
        for rule in found
    ]
