"""Server, console and browser for the attacks."""

from collections.abc import Iterator
from pathlib import Path

from lab.console_attacks import markup, requests, secrets
from lab.console_attacks.count import Count
from tests.support import browser, company

PASSWORD = "canary-console-3Tz8"
MORE = '\n[[console.users]]\nuser = "vera"\nrole = "admin"\npassword_file = "vera"\n'


def with_markup(folder: Path, texts: int, pages: int) -> Iterator[Count]:
    """Look at hostile texts in a browser, as an administrator."""
    with browser.chromium() as chromium, company.running(folder) as running:
        context = chromium.new_context(base_url=running.console.url)
        page = context.new_page()
        page.goto(f"/login?link={running.console.link()}")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_selector("nav")
        page.close()
        yield from markup.attack(running, context, texts, pages)


def with_requests(folder: Path, guesses: int, streams: int) -> Iterator[Count]:
    """Send requests that no browser of a user sends."""
    with company.running(folder, MORE) as running:
        (running.config.parent / "vera").write_text(PASSWORD)
        yield from requests.all_requests(running.console, PASSWORD, guesses, streams)


def with_secrets(folder: Path) -> Iterator[Count]:
    """Look for secrets."""
    folder.mkdir(parents=True, exist_ok=True)
    yield secrets.attack(folder)
