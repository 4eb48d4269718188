"""The pages Decisions and One decision, and the stream, of calls to a running server."""

import gzip
import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import pytest

from tests.support import live_server
from tests.support.audit_lines import append, line
from tests.support.live_console import LiveConsole, running_console
from tests.support.live_server import Running
from tests.support.waiting import wait_until

SERVICE = "/policy/v1/service/configuration"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("console")
    config = live_server.with_audit(live_server.SHIPPED, folder)
    with live_server.running(config) as running:
        # The console asks the admin listener of the configuration.
        port = running.admin.rpartition(":")[2]
        config.write_text(f"{config.read_text()}\n[admin]\nport = {port}\n")
        yield running


@pytest.fixture(scope="module")
def console(server: Running) -> Iterator[LiveConsole]:
    with running_console(server.audit.parent / "config.toml") as running:
        yield running.log_in()


def ask(server: Running, path: str = SERVICE, **parameters: str) -> dict[str, Any]:
    """Send a call; return its audit line."""
    server.ask(f"{path}?{urlencode(parameters)}")
    return server.last_line()


class OpenPage:
    """Asks for newer lines as an open page does."""

    def __init__(self, console: LiveConsole, query: str = "") -> None:
        live = re.search('data-live="([^"]*)"', console.get(f"/decisions?{query}").text)
        assert live is not None
        self.console = console
        self.query = dict(parse_qsl(unescape(live[1])))

    def ask(self) -> dict[str, Any]:
        """Return what is newer than the last time."""
        reply = self.console.get(f"/decisions/newer?{urlencode(self.query)}", HX_Request="true")
        found: dict[str, Any] = json.loads(reply.text)
        self.query["after"] = str(found["after"])
        return found

    def newer(self) -> dict[str, Any]:
        """Return the next rows."""
        found = list[dict[str, Any]]()

        def has_rows() -> bool:
            found.append(self.ask())
            return "<tr" in found[-1]["rows"]

        wait_until(has_rows)
        return found[-1]


def test_a_call_is_listed_and_its_page_has_each_step(server: Running, console: LiveConsole) -> None:
    told = ask(server, local_alias="sip:sales@example.com", remote_alias="sip:ann@example.com")
    link = f"/decisions/{told['decision_id']}"
    page = console.eventually("/decisions?alias=SALES", link)
    assert "Sales Room" in page
    one = console.get(link).text
    assert "service_configuration" in one
    assert "sip:ann@example.com" in one
    assert ">rooms</a>" in one
    assert "decided: accepted" in one
    assert told["hash"] in one
    assert console.actions()[-1] | {"timestamp": ""} == {
        "timestamp": "",
        "event": "view",
        "user": "ann",
        "peer": "127.0.0.1",
        "role": "admin",
        "path": link,
    }


def test_the_requests_of_a_call_are_on_one_page(server: Running, console: LiveConsole) -> None:
    parties = {"local_alias": "sip:board@example.com", "remote_alias": "sip:eve@example.com"}
    service = ask(server, **parties)
    properties = ask(server, "/policy/v1/participant/properties", **parties)
    console.eventually("/decisions?alias=board&requests=1", properties["decision_id"])
    calls = console.get("/decisions?alias=eve@example.com").text
    assert service["decision_id"] in calls
    assert properties["decision_id"] not in calls
    page = console.get(f"/decisions/{service['decision_id']}").text
    assert f'href="/decisions/{properties["decision_id"]}"' in page


def test_a_decision_is_tried_again_now_and_with_other_values(
    server: Running, console: LiveConsole
) -> None:
    told = ask(server, local_alias="sip:sales@example.com", remote_alias="sip:kim@example.com")
    path = f"/decisions/{told['decision_id']}"
    console.eventually("/decisions?alias=kim", path)
    links = [unescape(link) for link in re.findall(r'href="(/try[^"]*)"', console.get(path).text)]
    filled = [dict(parse_qsl(link.partition("?")[2])) for link in links if "request=" in link]
    asked = {"request": told["decision_id"]}
    assert filled == [{**asked, "at": "now"}, asked, asked]
    for given in filled[:2]:
        assert 'aria-label="Answer"' in console.get(f"/try?{urlencode(given)}").text
        for change in ({"parameters": "local_alias=engineering"}, {"p.local_alias": "engineering"}):
            reply = console.post("/try", {**given, **change})
            assert reply.status == 303
            assert "Engineering Room" in console.get(reply.headers["Location"]).text
    pasted = console.post("/try", {"request": "/policy/v1/service/configuration?local_alias=x"})
    assert (pasted.status, 'aria-label="Answer"' in pasted.text) == (200, True)
    assert "rule" not in console.get(f"{path}/walk").text
    assert f"/try?request={told['decision_id']}&amp;at=now" in console.eventually(
        "/try", "Examples"
    )


def test_the_plugins_show_the_way_of_the_calls(server: Running, console: LiveConsole) -> None:
    ask(server, local_alias="sip:sales@example.com")
    page = console.eventually("/plugins?span=24h", 'class="pipe"')
    assert 'aria-current="true">24 hours' in page
    assert "decides " in page
    assert "Not asked" not in console.get("/plugins/rooms").text


def test_an_unknown_decision_is_not_found(console: LiveConsole) -> None:
    for unknown in ("01a21c22-d876-7602-802b-964b04419ad6", "nonsense", "..%2f..%2fapp.py"):
        assert console.get(f"/decisions/{unknown}").status == 404


def test_a_view_is_a_url_and_its_counters_are_links(server: Running, console: LiveConsole) -> None:
    told = ask(server, local_alias="sip:count@example.com", node_ip="10.9.9.9")
    page = unescape(console.eventually("/decisions?alias=count", told["decision_id"]))
    assert 'href="/decisions?alias=count&node=10.9.9.9"' in page
    assert told["decision_id"] in console.get("/decisions?alias=count&node=10.9.9.9").text
    assert told["decision_id"] not in console.get("/decisions?alias=count&node=10.9.9.8").text


@pytest.mark.parametrize(
    "filters",
    [
        *("since=whenever", "until=2026-99-99", "since=999999999999d", "until=9999-12-31T23:59-14"),
        *("around=25:00", "around=2pm"),
        *("slower=very", "slower=nan", "slower=inf", "slower=1e400", "slower=-1", "slower=1e300"),
    ],
)
def test_a_wrong_filter_is_explained(console: LiveConsole, filters: str) -> None:
    assert 'class="banner trouble" role="alert"' in console.get(f"/decisions?{filters}").text


def test_a_call_appears_on_an_open_page(server: Running, console: LiveConsole) -> None:
    page = OpenPage(console, "caller=live@example.com")
    ask(server, local_alias="a@example.com", remote_alias="someone@example.com")
    told = ask(server, local_alias="a@example.com", remote_alias="sip:live@example.com")
    data = page.newer()
    assert told["decision_id"] in data["rows"]
    assert (data["rows"].count("<tr"), data["left_out"]) == (1, 0)


def test_a_page_that_was_hidden_gets_what_it_missed(server: Running, console: LiveConsole) -> None:
    shown = ask(server, local_alias="first@example.com")
    console.eventually("/decisions?alias=first", shown["decision_id"])
    page = OpenPage(console, "alias=first")
    missed = ask(server, local_alias="first@example.com", remote_alias="second@example.com")
    console.eventually("/decisions?caller=second", missed["decision_id"])
    data = page.newer()
    assert missed["decision_id"] in data["rows"]
    assert data["rows"].count("<tr") == 1


def test_an_open_page_sheds_load_and_counts_what_it_left_out(
    server: Running, console: LiveConsole
) -> None:
    page = OpenPage(console, "alias=flood&requests=1")
    request = {"local_alias": "sip:flood@example.com"}
    append(server.audit, (line(number, request=request) for number in range(500)))
    shown = left_out = 0
    while shown + left_out < 500:
        data = page.newer()
        assert data["rows"].count("<tr") <= 25
        shown += data["rows"].count("<tr")
        left_out += data["left_out"]
    assert shown >= 25


def test_an_open_page_is_recorded_once_and_ends_with_the_session(console: LiveConsole) -> None:
    other = LiveConsole(console.url, console.folder, console.pid, console.config)
    other.log_in(user="one with an open page")
    page = OpenPage(other)
    for query in ({"alias": "boss"}, {"alias": "boss"}, {"alias": "boss", "after": "1"}):
        other.get(f"/decisions/newer?{urlencode(query)}")
    views = [one for one in other.actions() if one.get("filters") == {"alias": "boss"}]
    assert len(views) == 1
    assert other.post("/logout").status == 303
    reply = other.get(f"/decisions/newer?{urlencode(page.query)}", HX_Request="true")
    assert reply.status == 401


PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "{{7*7}}{% raw %}",
    "</title><script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\u202e\u0000<b>",
    "100\u2066\u200f\u061c\u200b\u2028\x9b2",
)


def test_no_text_of_a_call_becomes_markup(server: Running, console: LiveConsole) -> None:
    names = ("local_alias", "remote_alias", "remote_display_name", "node_ip", "vendor", "location")
    page = OpenPage(console)
    told = [ask(server, **dict.fromkeys(names, payload)) for payload in PAYLOADS]
    data = page.newer()
    console.eventually("/decisions", told[-1]["decision_id"])
    pages = [data["rows"], console.get("/decisions").text]
    for one, payload in zip(told, PAYLOADS, strict=True):
        pages.append(console.get(f"/decisions/{one['decision_id']}").text)
        pages.append(console.get(f"/decisions?alias={quote(payload)}&reason={quote(payload)}").text)
        pages.append(console.get(f"/who?alias={quote(payload)}").text)
    for text in pages:
        # A field of a form keeps what was entered.
        assert re.sub(r'value="[^"]*"|\n', "", text).isprintable()
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "<svg/onload" not in text
        assert "<b>" not in text
        assert 'href="javascript:' not in text
        assert "49{%" not in text


def test_numbers_count_calls_and_lead_to_their_lines(server: Running, console: LiveConsole) -> None:
    for path in (SERVICE, "/policy/v1/participant/location"):
        call = {"local_alias": "sip:counted@example.com", "remote_alias": "eve"}
        ask(server, path, **call, location="=Narvik")
    path = "/calls.csv?by=location&span=1h"
    wait_until(lambda: "Narvik" in console.get(path).text)
    (line,) = (one for one in console.get(path).text.splitlines() if "Narvik" in one)
    assert line.split(",")[2:] == ["'=Narvik", "1", "0", "0", "1"]
    page = console.get("/?span=1h").text
    assert "Calls are answered" in page or "Everything is normal" in page or "attention" in page
    page = console.get("/calls?by=location&span=1h").text
    (wanted,) = re.findall(r'href="(/decisions\?location=%3DNarvik[^"]*)"', page)
    shown = console.get(unescape(wanted)).text
    assert shown.count("counted@example.com") >= 2
    days = console.get("/calls?by=location&each=day&since=3d").text
    assert "=Narvik" in days
    for query in ("by=nothing", "each=week", "since=never", "since=2h&until=3h"):
        assert console.get(f"/calls.csv?{query}").status == 400
        assert "failed" in console.get(f"/calls?{query}").text


def test_who_gets_what_is_linked_for_roles_that_may_use_it(
    server: Running, console: LiveConsole
) -> None:
    told = ask(server, local_alias="sip:roles@example.com")
    path = f"/decisions/{told['decision_id']}"
    console.eventually("/decisions?alias=roles", path)
    other = LiveConsole(console.url, console.folder, console.pid, console.config)
    for role, is_linked in (("viewer", False), ("operator", True)):
        assert ('href="/who' in other.log_in(role).get(path).text) is is_linked


FORGED: tuple[dict[str, Any], ...] = (
    {"annotations": [1]},
    {"annotations": {"rules": 5}},
    {"warnings": 5},
    {"removed": 5},
    {"steps": [{"plugin": "rooms", "outcome": "adjusted", "ms": 1, "changes": {"pin": 5}}]},
    {"steps": [{"plugin": "rooms", "outcome": "decided", "ms": 1, "fields": 5}]},
    {"sent": [5]},
)


def test_lines_of_other_shapes_have_a_page(server: Running, console: LiveConsole) -> None:
    # Other tests write the first thousands of these calls.
    forged = [line(number, **fields) for number, fields in enumerate(FORGED, 9000)]
    append(server.audit.with_name("audit.jsonl.1"), forged)
    ids = [one["decision_id"] for one in forged]
    console.eventually(f"/decisions/{ids[-1]}", forged[-1]["request"]["local_alias"])
    for one in ids:
        assert console.get(f"/decisions/{one}").status == 200, one


def test_a_form_leads_to_a_short_url(console: LiveConsole) -> None:
    reply = console.get("/decisions?alias=board&called=&zone=Europe%2FOslo&slower=&before=7")
    assert (reply.status, reply.headers["Location"]) == (303, "/decisions?alias=board&before=7")
    assert console.get("/decisions?alias=").headers["Location"] == "/decisions"


def test_the_lines_of_a_view_are_downloaded_as_they_were_written(
    server: Running, console: LiveConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [ask(server, local_alias=f"sip:packed{n}@example.com") for n in range(3)]
    console.eventually("/decisions?alias=packed2", told[-1]["decision_id"])
    lines = gzip.decompress(console.get("/audit/download?called=packed*").body).splitlines()
    assert [json.loads(one)["hash"] for one in lines] == [one["hash"] for one in told]
    assert all(one in server.audit.read_bytes().splitlines() for one in lines)
    assert gzip.decompress(console.get("/audit/download?until=2020-01-01").body) == b""
    assert console.get("/audit/download?since=never").status == 400
