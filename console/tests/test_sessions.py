"""Sessions end after an hour without a click, and when the configuration no longer lets their user
in.
"""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from pexpolicy_console.login.sessions import IDLE_S, LIFETIME_S, Role, Sessions
from tests.support.live_console import LiveConsole, running_console


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_session_ends_after_an_hour_without_use() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    cookie, session = sessions.create("ann", Role.VIEWER, "link", None)
    for _ in range(3):
        clock.now += IDLE_S - 1
        assert sessions.find(cookie) is session
        assert sessions.find(cookie, is_use=False) is session
    clock.now += IDLE_S
    assert sessions.find(cookie, is_use=False) is not session
    assert sessions.find(cookie) is None


def test_what_a_page_loads_by_itself_does_not_prolong_a_session() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    cookie, session = sessions.create("ann", Role.VIEWER, "link", None)
    for _ in range(4):
        clock.now += IDLE_S / 5
        assert sessions.find(cookie, is_use=False) is session
    clock.now += IDLE_S / 5
    assert sessions.find(cookie, is_use=False) is not session


def test_a_session_ends_after_its_time_although_it_is_used() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    cookie, session = sessions.create("ann", Role.VIEWER, "link", None)
    while clock.now + IDLE_S / 2 < LIFETIME_S:
        clock.now += IDLE_S / 2
        assert sessions.find(cookie) is session
    clock.now += IDLE_S / 2
    assert sessions.find(cookie) is None


def test_a_user_who_logs_in_again_and_again_ends_no_session_of_others() -> None:
    sessions = Sessions(Clock())
    of_ann, ann = sessions.create("ann", Role.ADMIN, "password", None)
    of_vera = [sessions.create("vera", Role.VIEWER, "password", None)[0] for _ in range(2000)]
    assert sessions.find(of_ann) is ann
    assert [sessions.find(cookie) is not None for cookie in of_vera[-51:]] == [False, *[True] * 50]


CONFIG = """
[audit]
path = "audit.jsonl"

[console]
label = "test"

[[console.users]]
user = "vera"
role = "viewer"
password_file = "vera.txt"

[[console.users]]
user = "otto"
role = "operator"
password_file = "vera.txt"
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveConsole]:
    folder: Path = tmp_path_factory.mktemp("console")
    config = folder / "config.toml"
    config.write_text(CONFIG)
    (folder / "vera.txt").write_text("correct horse battery")
    with running_console(config) as console:
        yield console


@pytest.fixture
def console(running: LiveConsole) -> LiveConsole:
    """Return a browser without a session; the configuration is as it was at the start."""
    running.config.write_text(CONFIG)
    return LiveConsole(running.url, running.folder, running.pid, running.config)


def by_password(console: LiveConsole) -> None:
    form = {"user": "vera", "password": "correct horse battery"}
    reply = console.send("POST", "/login", urlencode(form), {"Origin": console.url})
    console.cookie = reply.headers["Set-Cookie"].partition(";")[0]


def by_link(console: LiveConsole) -> None:
    console.log_in("admin")


CHANGES = {
    "vera's role": ('"viewer"', '"operator"'),
    "vera's password": (
        '"vera"\nrole = "viewer"\npassword_file = "vera.txt"',
        '"vera"\nrole = "viewer"\npassword_env = "HOME"',
    ),
    "vera": ('user = "vera"', 'user = "walter"'),
    "otto's role": ('"operator"', '"viewer"'),
    "the label": ('"test"', '"production"'),
    "a key that is wrong": ('label = "test"', 'label = "test"\nlabels = 3'),
}
OF_OTHERS = ("otto's role", "the label", "a key that is wrong")


@pytest.mark.parametrize("change", CHANGES)
def test_a_session_ends_when_its_entry_in_the_configuration_changes(
    console: LiveConsole, change: str
) -> None:
    for log_in, remains in ((by_password, OF_OTHERS), (by_link, OF_OTHERS[1:])):
        console.config.write_text(CONFIG)
        log_in(console)
        assert console.get("/audit").status == 200
        console.config.write_text(CONFIG.replace(*CHANGES[change], 1))
        status = 200 if change in remains else 303
        assert console.get("/audit").status == status, log_in.__name__
