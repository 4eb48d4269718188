"""Sessions end after an hour without a click, also those of open streams."""

from pexpolicy_console.login.sessions import IDLE_S, Sessions
from pexpolicy_console.roles import Role


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_session_ends_after_an_hour_without_use() -> None:
    clock = Clock()
    sessions = Sessions(8 * 3600, clock)
    cookie, session = sessions.create("ann", Role.VIEWER, "link")
    for _ in range(3):
        clock.now += IDLE_S - 1
        assert sessions.find(cookie) is session
        assert sessions.is_open(session, cookie)
    clock.now += IDLE_S
    assert not sessions.is_open(session, cookie)
    assert sessions.find(cookie) is None


def test_what_a_page_loads_by_itself_does_not_prolong_a_session() -> None:
    clock = Clock()
    sessions = Sessions(8 * 3600, clock)
    cookie, session = sessions.create("ann", Role.VIEWER, "link")
    for _ in range(4):
        clock.now += IDLE_S / 5
        assert sessions.find(cookie, is_use=False) is session
    clock.now += IDLE_S / 5
    assert not sessions.is_open(session, cookie)


def test_a_session_ends_after_its_time_although_it_is_used() -> None:
    clock = Clock()
    sessions = Sessions(2 * IDLE_S, clock)
    cookie, session = sessions.create("ann", Role.VIEWER, "link")
    clock.now = IDLE_S - 1
    assert sessions.find(cookie) is session
    clock.now = 2 * IDLE_S - 2
    assert sessions.find(cookie) is session
    clock.now = 2 * IDLE_S
    assert sessions.find(cookie) is None


def test_the_session_of_a_proxy_is_open_until_its_time() -> None:
    clock = Clock()
    sessions = Sessions(2 * IDLE_S, clock)
    session, is_new = sessions.of_proxy("ann", Role.ADMIN)
    clock.now = 2 * IDLE_S - 1
    assert is_new
    assert sessions.is_open(session, "")
    clock.now = 2 * IDLE_S
    assert not sessions.is_open(session, "")
