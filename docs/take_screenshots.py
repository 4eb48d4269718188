"""Command that takes screenshots of each page of the console, with the data of the full example.

All of them are written to build/screenshots, in light and dark and for narrow and wide windows. A
few are written to docs/pictures, with fewer colours, for the documentation.
"""

import copy
import random
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize

from tests.support import audit_lines, browser, company, paths

TARGET = paths.ROOT / "build/screenshots"
PICTURES = paths.ROOT / "docs/pictures"
THEMES = ("light", "dark")
NARROW, USUAL, WIDE = 360, 1440, 2560
WIDE_PAGES = ("overview", "decisions", "decision", "rules")
KEPT = {
    "overview": "console-overview.png",
    "decisions": "console-decisions.png",
    "decision": "console-decision.png",
    "configuration": "console-changes.png",
    "rules": "console-rules.png",
    "plugins": "console-plugins.png",
}
"""Pages of the documentation."""
KEPT_SIZE: ViewportSize = {"width": 1280, "height": 716}
"""Above the path of the file that Changes shows, which is a temporary one."""
PHONE: ViewportSize = {"width": 360, "height": 740}
COLOURS = 256
MINUTES = 5 * 1440
"""What is known of more than three days has a normal range."""
CALLS_A_MINUTE = 1
ROOMS = ("engineering", "board", "town-hall", "helpdesk", "nobody", "room7@bookings")
CALLERS = ("alice", "bob", "carol")
WAIT_MS = 20_000
PATHS = {
    "overview": "/",
    "decisions": "/decisions",
    "filtered": "/decisions?alias=board&action=reject",
    "nothing": "/decisions?alias=nobody-called-this",
    "wrong-filter": "/decisions?slower=very",
    "try": "/try",
    "try-endpoint": "/try?endpoint=participant_properties",
    "who": "/who?alias=board@example.com",
    "who-empty": "/who",
    "rooms": "/rooms",
    "rooms-empty": "/rooms?text=no-such-room",
    "rules": "/rules",
    "plugins": "/plugins",
    "plugin": "/plugins/rules",
    "nodes": "/nodes",
    "configuration": "/changes",
    "reload": "/changes/reload",
    "audit": "/audit",
    "not-found": "/no-such-page",
}


def history(lines: list[dict[str, Any]], now: float) -> Iterator[dict[str, Any]]:
    """Yield calls of the last days, made of those that the server has answered."""
    chance = random.Random(7)  # noqa: S311 - no secret
    calls = [one for one in lines if one["event"] == "decision"]
    for number in range(MINUTES * CALLS_A_MINUTE):
        at = int((now - MINUTES * 60 + number * 60 / CALLS_A_MINUTE) * 1000)
        line = copy.deepcopy(chance.choice(calls))
        line["decision_id"] = audit_lines.decision_id(at, number)
        line["seq"] = number + 2  # the first line of a process is a start
        moment = datetime.fromtimestamp(at / 1000, UTC)
        line["timestamp"] = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
        factor = chance.lognormvariate(0, 0.7)
        line["ms"] = round(line["ms"] * factor, 3)
        for step in line["steps"]:
            step["ms"] = round(step["ms"] * factor, 3)
        yield line


def make_call(running: company.Company, room: str, caller: str, number: int) -> None:
    """Send the requests of one call."""
    name = caller.capitalize()
    parties = {
        "local_alias": f"{room}{'.' if '@' in room else '@'}example.com",
        "remote_alias": f"sip:{caller}@example.com",
        "remote_display_name": name,
        "remote_address": f"10.10.1.{number + 2}",
        "node_ip": f"10.44.0.2{number % 3}",
    }
    identifiers = {"request_id": str(uuid.uuid4())}
    running.call("service_configuration", "sip", **parties)
    running.call("media_location", **parties, **identifiers)
    groups = {"idp_attributes": {"groups": ["Sales"]}, "service_tag": room}
    call = {"call_uuid": str(uuid.uuid4()), **identifiers}
    running.call("participant_properties", "sso", **parties, **groups, **call)


def change_file(running: company.Company) -> None:
    """Change a value of the configuration, and wait until the server has reloaded it."""
    config = running.config
    config.write_text(config.read_text().replace("timeout = 2.0", "timeout = 1.5", 1))
    while "changed plugins.upstream.timeout" not in running.console.get("/changes").text:
        time.sleep(0.2)


def break_file(running: company.Company) -> None:
    """Leave an error in the configuration, and wait until the server has refused it."""
    config = running.config
    config.write_text(config.read_text().replace("priority = 15", 'priority = "soon"', 1))
    while "Problems of the last reload" not in running.console.get("/changes").text:
        time.sleep(0.2)


def prepare(running: company.Company) -> dict[str, str]:
    """Make calls, verify the audit and change a file; return the paths of further pages."""
    for number, (room, caller) in enumerate((r, c) for c in CALLERS for r in ROOMS):
        make_call(running, room, caller, number)
    running.call("service_configuration", "sip", local_alias="board", vendor="friendly-scanner")
    running.call("registration_alias", alias="anna@example.com")
    running.call("registration_alias", alias="anna@elsewhere.example")
    running.call("directory_information", q="an")
    audit = running.server.audit
    running.console.log_in("operator").post("/audit/verify")
    while "Verifying" in running.console.get("/audit").text:
        time.sleep(0.2)
    lines = running.server.lines()
    audit_lines.append(audit.with_name("audit.jsonl.1"), history(lines, time.time()))
    change_file(running)
    while " behind" in running.console.get("/").text:  # the index
        time.sleep(0.2)
    found = {}
    for line in lines:
        if line.get("reason") == "a scanner's user agent":
            found["rejected"] = f"/decisions/{line['decision_id']}"
        elif line.get("decided_by") == "rooms" and line["sent"].get("name") == "Board":
            found.setdefault("decision", f"/decisions/{line['decision_id']}")
        elif line.get("decided_by") == "upstream":
            found["failed"] = f"/decisions/{line['decision_id']}"
    return found


def logged_in(chromium: Browser, running: company.Company, theme: str) -> BrowserContext:
    """Return the browser of an administrator."""
    context = chromium.new_context(
        base_url=running.console.url,
        color_scheme="dark" if theme == "dark" else "light",
        timezone_id="Europe/Oslo",
        locale="en-GB",
    )
    page = context.new_page()
    page.goto(f"/login?link={running.console.link()}")
    page.screenshot(path=TARGET / f"login-link-{theme}.png")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector("nav")
    page.close()
    return context


def take(page: Page, name: str, theme: str, path: str = "") -> None:
    """Take screenshots of the page at ``path``, or of the one that is open, at each width."""
    for width in (NARROW, *([WIDE] if name in WIDE_PAGES else []), USUAL):
        page.set_viewport_size({"width": width, "height": 900})
        if path:
            page.goto(path)
        if name == "decisions":
            page.get_by_text("Older lines").wait_for()
        page.screenshot(path=TARGET / f"{name}-{width}-{theme}.png", full_page=True)


def keep(page: Page, name: str, size: ViewportSize = KEPT_SIZE) -> None:
    """Write the picture of the documentation with this name."""
    page.set_viewport_size(size)
    with Image.open(BytesIO(page.screenshot())) as screenshot:
        picture = screenshot.convert("RGB")
    # The grounds stay as they are, and each other colour becomes the nearest of the usual ones.
    usual = Counter(picture.getdata()).most_common(COLOURS)
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour, _ in usual for part in colour])
    small = picture.quantize(palette=palette, dither=Image.Dither.NONE)
    small.save(PICTURES / name, optimize=True)


def answer(page: Page) -> None:
    """Ask a question on the page that tries requests."""
    page.goto("/try?endpoint=service_configuration")
    page.locator("[name=request]").fill("board@example.com")
    page.get_by_role("button", name="Ask").click()
    page.wait_for_selector("[aria-label=Answer]", timeout=WAIT_MS)


def main() -> int:
    """Take all screenshots."""
    TARGET.mkdir(parents=True, exist_ok=True)
    for old in TARGET.glob("*.png"):
        old.unlink()
    with (
        tempfile.TemporaryDirectory() as folder,
        browser.chromium() as chromium,
        company.running(Path(folder)) as running,
    ):
        running.console.log_in().get("/changes")  # so it knows what was in force
        pages = {**PATHS, **prepare(running)}
        for theme in THEMES:
            context = logged_in(chromium, running, theme)
            page = context.new_page()
            page.set_default_timeout(WAIT_MS)
            for name, path in pages.items():
                take(page, name, theme, path)
                if theme == "light" and name in KEPT:
                    keep(page, KEPT[name])
            if theme == "dark":
                page.goto("/decisions?action=reject")
                keep(page, "console-phone.png", PHONE)
            answer(page)
            take(page, "answer", theme)
            page.goto("/decisions")
            page.locator(".filters summary").click()
            take(page, "filters", theme)
            context.close()
        break_file(running)
        for theme in THEMES:
            context = logged_in(chromium, running, theme)
            page = context.new_page()
            for name, path in (("overview-broken", "/"), ("broken", "/changes")):
                take(page, name, theme, path)
            context.close()
    sys.stdout.write(f"{len(list(TARGET.glob('*.png')))} screenshots in {TARGET}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
