"""The page Changes: what changed, with values but no secrets, and the way back."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pexpolicy.fleet.last_good import Activation, history
from pexpolicy_console.differences import difference
from tests.server.test_reload import reloaded
from tests.support import live_console, live_server, wire
from tests.support.server_process import free_port
from tests.support.waiting import wait_until

CONFIG = """
[audit]
path = "audit.jsonl"
[admin]
port = {port}
[plugins.rooms.settings]
csv = "rooms.csv"
"""
ROOM = f"{wire.SERVICE}?local_alias=board&remote_alias=alice"
PINS = ("48151623", "31415926")


RULE = '[[rules]]\nname = "{}"\nwhen.remote_alias = {}\nthen.action = "reject"\n'
TOKEN = '[[tokens]]\nid = 1\nvalue = "{}"'
SHOWN = "name A, when.remote_alias , then.action reject"


def kept(folder: Path, name: str, content: str) -> Activation:
    """Keep a file in the folder of a server."""
    digest = hashlib.sha256(content.encode()).hexdigest()
    (folder / "objects").mkdir(exist_ok=True)
    (folder / "objects" / digest).write_text(content)
    return Activation(0.0, digest, "1", "/etc/config.toml", {f"/etc/{name}": digest}, {})


TOML = (
    ("x.timeout = 0.5", "x.timeout = 0.8", ("x.timeout", "0.5", "0.8")),
    ("", "x.timeout = 0.8", ("x.timeout", None, "0.8")),
    (RULE.format("A", '"al"'), RULE.format("A", '["al", "bo"]'), ("rule A", "al", "al, bo")),
    (RULE.format("A", "[]"), RULE.format("B", "[]"), ("rule A", SHOWN, None)),
    ('room.guest_pin = "12"', 'room.guest_pin = "9"', ("room.guest_pin", "a secret", "changed")),
    ('x.token_file = "a"', 'x.token_file = "b"', ("x.token_file", "a", "b")),
    (TOKEN.format("q"), TOKEN.format("r"), ("token 1", "a secret", "changed")),
    ('x.url = "https://u:p@h/"', "", ("x.url", "https:***@h/", None)),
)
CSV = (
    ("aliases,name\nlab,Lab", "aliases,name\nlab,Den", ("a lab", "Lab", "Den")),
    ("aliases;PIN\nlab;1", "aliases;PIN\nlab;2", ("a lab", "a secret", "changed")),
    ("aliases,pin\n", "aliases,pin\nlab,1", ("a lab", None, "aliases lab, pin a secret")),
)
OTHER = (("A = 1", "A = 2", ("a.py", "", "changed")),)


@pytest.mark.parametrize(
    ("kind", "before", "after", "row"),
    [(kind, *one) for kind, rows in (("toml", TOML), ("csv", CSV), ("py", OTHER)) for one in rows],
)
def test_values_are_compared_and_secrets_are_not_shown(
    tmp_path: Path, kind: str, before: str, after: str, row: tuple[str, str | None, str | None]
) -> None:
    sides = [kept(tmp_path, f"a.{kind}", text) for text in (before, after)]
    rows = difference(tmp_path, *sides)["rows"]
    assert row in [(one["where"], one["before"], one["after"]) for one in rows]


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[live_server.Running, live_console.LiveConsole]]:
    """A server that has reloaded once, with its console."""
    config = (folder := tmp_path_factory.mktemp("changes")) / "config.toml"
    config.write_text(CONFIG.format(port=free_port()))
    (folder / "rooms.csv").write_text(f"aliases,name,pin\nboard,First,{PINS[0]}\n")
    with (
        live_server.running(config, own_admin_port=True) as server,
        live_console.running_console(config) as console,
    ):
        server.ask(ROOM)
        wait_until(lambda: len(history(folder / "state", config)) == 1)
        (folder / "rooms.csv").write_text(f"aliases,name,pin\nboard,Second,{PINS[1]}\n")
        reloaded(config)
        wait_until(lambda: len(history(folder / "state", config)) == 2)
        yield server, console


def test_an_admin_goes_back_after_a_replay_once(
    running: tuple[live_server.Running, live_console.LiveConsole],
) -> None:
    server, console = running
    config = server.audit.with_name("config.toml")
    first = history(config.parent / "state", config)[-1].policy_hash
    form = {"to": first, "why": "calls fail"}
    for role in ("viewer", "operator"):
        assert console.log_in(role).post("/changes/back", form).status == 403
    console.log_in("admin", "ada")
    assert console.post("/changes/back", form).status == 409  # there was no replay
    page = console.eventually("/changes", "First")
    assert re.search(r"<del[^>]*>First</del>.*<ins[^>]*>Second</ins>", page, re.DOTALL)
    assert not [pin for pin in PINS if pin in page]

    to = f"/changes/back?to={first}"
    reply = console.post("/changes/replay", {"kept": first, "back": "1"})
    assert (reply.status, reply.headers["Location"]) == (303, to)
    wait_until(lambda: 'name="why"' in console.get(to).text)
    assert (
        "calls have another answer" in console.get(to).text or "no call has" in console.get(to).text
    )
    assert console.post("/changes/back", form, {"Origin": "http://evil.example"}).status == 403
    page = console.post("/changes/back", form).text
    assert f"reloaded (rooms; {first})" in page

    assert server.ask(ROOM).json["result"]["name"] == "First"
    assert console.post("/changes/back", form).status == 409  # once after each replay
    (action,) = [line for line in console.actions() if line["event"] == "go_back"]
    assert (action["user"], action["policy_hash"], action["why"]) == ("ada", first, "calls fail")
    line = [one for one in server.lines() if one["event"] == "reload"][-1]
    assert (line["back_to"], line["author"]) == (first, "ada: calls fail")
    wait_until(lambda: f"Back to {first[:6]}" in console.get("/changes").text)
    to_come = console.get("/changes").text.partition("What a reload changes")[2]
    assert re.search(r"<del[^>]*>First</del>.*?<ins[^>]*>Second</ins>", to_come, re.DOTALL)


@pytest.mark.parametrize("to", ["", "0" * 16, "../status", "x"])
def test_only_what_is_kept_can_be_gone_back_to(
    running: tuple[live_server.Running, live_console.LiveConsole], to: str
) -> None:
    _, console = running
    console.log_in("admin")
    assert console.post("/changes/replay", {"kept": to, "back": "1"}).status in (303, 404)
    assert console.get(f"/changes/back?to={to}").status == 404
    assert console.post("/changes/back", {"to": to}).status == 409


def test_a_replay_that_has_ended_is_not_cancelled_and_nothing_is_recorded(
    running: tuple[live_server.Running, live_console.LiveConsole],
) -> None:
    _, console = running
    console.log_in("operator")

    def events() -> list[str]:
        return [one["event"] for one in console.actions()]

    wait_until(lambda: "replay-cancel" not in console.get("/changes").text)
    before = events()
    assert [console.post("/changes/replay/cancel").status for _ in range(3)] == [303] * 3
    assert "replay_cancelled" not in events()[len(before) :]
