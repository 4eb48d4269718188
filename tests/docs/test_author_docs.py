"""The pages for authors of plugins: each section's plugin does what the text says."""

import io
import json
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image

from pexpolicy import Avatar
from pexpolicy.log import ServerLog, capturing
from pexpolicy.observability.metrics import expose
from pexpolicy.observability.telemetry import Telemetry
from pexpolicy.testing import (
    ConfigError,
    Outcome,
    capture_audit,
    decide,
    decide_sync,
    make_policy,
    make_request,
)
from tests.support import doc_pages, samples

HOW_TO = "how-to.md"
SERVICE, PARTICIPANT = "service_configuration", "participant_properties"
LOCATION = "media_location"
FILES = {
    "on-duty.txt": "alice\n",
    "branches.csv": "\ufeffsubnet;name\n10.1.0.0/16;Oslo\n2001:db8::/32;Bergen\n",
}
WRONG_FILE = "subnet,name\n10.1.0.0/33,Oslo\n10.2.0.0/16,Oslo\n10.2.0.0/16,Bergen"
HEADINGS = {
    "Rota": "Settings",
    "Booths": "Fields of a decision as settings",
    "Nearest": "A typed base class",
    "Escorts": "Conditions",
    "Branches": "Subnets and CSV files",
    "Ticket": "Secrets",
    "Inventory": "Code that blocks",
    "Own": "Abstain, continue or reject",
    "Quiet": "The same decision with other fields",
    "Clinic": "Several hooks",
    "Crew": "A phone book",
    "Members": "Attributes from an identity provider",
    "Booking": "Decisions that Infinity would drop",
    "Hours": "Mistakes that types do not find",
}
samples.covered.update((HOW_TO, heading) for heading in HEADINGS.values())


def row(name: str, endpoint: str, fields: Mapping[str, Any], /, **expected: Any) -> tuple[Any, ...]:
    """A plugin, a request, and what its outcome must have."""
    return name, endpoint, fields, expected


DANA = {"remote_display_name": "Dana"}
HOST = {"remote_address": "10.1.2.3", "idp_attributes": {"groups": "meeting hosts"}}
BOARD = {"local_alias": "board@example.com"}
PATIENT = {"local_alias": "sip:patient-7@example.com"}
DIRECTOR = {"service_tag": "board", "idp_attributes": {"groups": ["Everybody", "DIRECTORS"]}}
ADVISER = {"service_tag": "board", "idp_attributes": {"groups": ["Advisers"]}}
CASES = [
    row(
        "Rota",
        SERVICE,
        {"local_alias": "desk@example.com"},
        name="Alice's Desk",
        service_tag="desk",
    ),
    row(
        "Booths",
        SERVICE,
        {"local_alias": "sip:Red@example.com"},
        name="Red Booth",
        ivr_theme_name="Blue",
    ),
    row("Nearest", LOCATION, {}, location="Oslo"),
    row("Escorts", PARTICIPANT, HOST, preauthenticated_role="chair"),
    row("Escorts", PARTICIPANT, {"remote_address": "192.0.2.1"}, by="default"),
    row(
        "Branches",
        PARTICIPANT,
        {"remote_address": "2001:db8::1", **DANA},
        remote_display_name="Dana (Bergen)",
    ),
    row("Branches", PARTICIPANT, {"remote_address": "192.0.2.1", **DANA}, by="default"),
    row("Ticket", PARTICIPANT, {"call_tag": "let me in"}, action="continue"),
    row("Ticket", PARTICIPANT, {"call_tag": ""}, action="reject"),
    row(
        "Inventory", "registration_alias", {"alias": "gone@x.org"}, action="reject", by="inventory"
    ),
    row("Inventory", "registration_alias", {"alias": "here@x.org"}, action="continue"),
    row("Own", SERVICE, {"local_alias": "meet.alice"}, action="continue", by="own"),
    row("Own", SERVICE, {"local_alias": "bob"}, by="default"),
    row(
        "Quiet",
        SERVICE,
        {**BOARD, "remote_alias": "a@b.example"},
        pin="471100",
        ivr_theme_name="Oslo",
    ),
    row(
        "Quiet",
        SERVICE,
        {**BOARD, "remote_alias": "a@example.com"},
        pin=None,
        ivr_theme_name="Silent",
    ),
    row("Clinic", SERVICE, PATIENT, name="Patient 7", service_tag="clinic"),
    row(
        "Clinic",
        PARTICIPANT,
        {"service_tag": "clinic", "registered": False},
        remote_display_name="Patient",
    ),
    row("Clinic", PARTICIPANT, {"service_tag": "clinic", "registered": True}, by="default"),
    row("Clinic", LOCATION, {"service_tag": "clinic"}, location="Clinic"),
    row("Crew", "directory_information", {"q": "ENG", "limit": 10}, found=["Engine room"]),
    row("Crew", "directory_information", {"q": "", "limit": 1}, found=["Bridge"]),
    row("Members", PARTICIPANT, DIRECTOR, preauthenticated_role="chair"),
    row("Members", PARTICIPANT, ADVISER, preauthenticated_role="guest"),
    row("Members", PARTICIPANT, {"service_tag": "board"}, reject_reason="You are not on the list."),
    row("Booking", SERVICE, {"local_alias": "alice@example.com"}, pin="4711"),
    row("Booking", SERVICE, {"local_alias": "bob@example.com"}, locked=True),
]


def steps(outcome: Outcome) -> list[str]:
    return [step.outcome for step in outcome.steps]


def asked(heading: str, name: str, endpoint: str, **fields: Any) -> Outcome:
    """What the plugin of a section makes of a request, with the configuration of the section."""
    told = samples.section(HOW_TO, heading)
    return decide_sync(
        told.plugin(name), make_request(endpoint, **fields), config=told.config or None
    )


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONFERENCE_TICKET", "let me in")
    for name, text in FILES.items():
        Path(name).write_text(text)
    with closing(sqlite3.connect("inventory.sqlite")) as database, database:
        database.execute("CREATE TABLE stolen (alias TEXT)")
        database.execute("INSERT INTO stolen VALUES ('gone@x.org')")


@pytest.mark.parametrize(("name", "endpoint", "fields", "expected"), CASES)
def test_the_plugin_of_a_section_decides_as_the_text_says(
    name: str, endpoint: str, fields: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
    told = samples.section(HOW_TO, HEADINGS[name])
    plugin: Any = told.plugin(name)
    config: Any = told.config or None
    if name == "Booths":  # what the page shows has a mistake
        settings = config["plugins"]["booths"]["settings"]
        plugin = (told.names[name], {**settings, "look": {"ivr_theme_name": "Blue"}})
        config = None
    outcome = decide_sync(plugin, make_request(endpoint, **fields), config=config)
    sent = outcome.decision.set_fields()
    sent["found"] = [entry["description"] for entry in sent.get("entries", ())]
    sent |= {"action": outcome.decision.action, "by": outcome.decided_by}
    assert {key: sent.get(key) for key in expected} == expected
    assert "failed" not in steps(outcome)


@pytest.mark.parametrize("name", ["Booths", "Hours", "Branches"])
def test_mistakes_are_named_as_shown(name: str) -> None:
    Path("branches.csv").write_text(WRONG_FILE)
    told = samples.section(HOW_TO, HEADINGS[name])
    with pytest.raises(ConfigError) as refused:
        make_policy(told.plugin(name), config=told.config)
    problems = "".join(f"  {problem}\n" for problem in refused.value.problems)
    count = len(refused.value.problems)
    assert told.shown("text") == f"config.toml: {count} error{'s'[: count - 1]}\n{problems}"


@pytest.mark.parametrize(("hour", "action"), [(7, "reject"), (8, "continue"), (16, "reject")])
def test_hours_refuses_calls_outside_of_its_hours(
    hour: int, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = samples.section(HOW_TO, "Mistakes that types do not find")
    monkeypatch.setattr(told.names["Hours"], "_now", lambda _: hour)
    settings = {"open": {"sip:Clinic@example.com": [8, 16]}}
    request = make_request(SERVICE, local_alias="clinic@example.com")
    assert decide_sync((told.names["Hours"], settings), request).decision.action == action


def test_a_secret_that_is_missing_is_named_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONFERENCE_TICKET")
    with pytest.raises(ConfigError, match=r"settings\.ticket_env: the environment variable"):
        asked("Secrets", "Ticket", PARTICIPANT)


@samples.covers(HOW_TO, "A service to ask")
@pytest.mark.parametrize(
    ("alias", "expected"),
    [("alice@example.com", "decided"), ("nobody@example.com", "abstained"), ("broken", "failed")],
)
async def test_a_service_is_asked_by_a_client_that_lifespan_opened(
    alias: str, expected: str
) -> None:
    async def people(request: web.Request) -> web.Response:
        if request.query["alias"] == "broken":
            return web.Response(status=500)
        if request.query["alias"] != "alice@example.com":
            return web.Response(status=404)
        return web.json_response({"name": "Alice of Accounts"})

    application = web.Application()
    application.router.add_get("/people", people)
    told = samples.section(HOW_TO, "A service to ask")
    async with TestServer(application, host="127.0.0.1") as server:
        plugin = (told.names["Staff"], {"url": str(server.make_url("/people"))})
        outcome = await decide(plugin, make_request(PARTICIPANT, remote_alias=alias))
    assert steps(outcome) == [expected]
    make_policy(told.plugin("Staff"), config=told.config)


@samples.covers(HOW_TO, "Pictures")
@pytest.mark.parametrize(
    ("alias", "found"), [("sip:Alice@example.com", True), ("../faces/alice@example.com", False)]
)
def test_a_picture_is_looked_up_and_made_to_fit(alias: str, found: bool) -> None:
    Path("faces").mkdir()
    Image.new("RGB", (64, 64), "red").save("faces/Alice.jpg")
    picture = asked("Pictures", "Faces", "participant_avatar", alias=alias, width=32, height=16)
    assert isinstance(picture.decision, Avatar) is found
    if isinstance(picture.decision, Avatar):
        assert Image.open(io.BytesIO(picture.decision.image)).size == (32, 16)


@samples.covers("debugging.md", "In a test")
def test_the_test_of_the_page_about_debugging_passes() -> None:
    samples.section("debugging.md", "In a test").names["test_a_call_without_a_tag"]()


@samples.covers("logging.md", "Writing lines")
def test_the_line_is_as_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    told = samples.section("logging.md", "Writing lines")
    plugins = {"rooms_by_tag": told.names["RoomsByTag"]}
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    request = make_request(SERVICE, call_tag="blue")
    with capturing(ServerLog()) as handler:
        handler.use(make_policy(plugins, config=told.config).log_levels)
        decide_sync(plugins, request, config=told.config)
    written, shown = json.loads(stderr.getvalue()), json.loads(told.shown("json"))
    assert list(written) == list(shown)
    assert written["decision_id"] == request.decision_id
    for line in (written, shown):
        for field in ("timestamp", "logger", "decision_id"):
            del line[field]
    assert written == shown


@samples.covers("telemetry.md", "Annotations")
def test_annotations_are_in_the_audit_line_as_shown() -> None:
    told = samples.section("telemetry.md", "Annotations")
    request = make_request(SERVICE, local_alias="garden@example.com")
    with capture_audit() as lines:
        decide_sync(told.plugin("Doors"), request, config=told.config)
    assert {"annotations": lines[0]["annotations"]} == json.loads(told.shown("json"))


@samples.covers("telemetry.md", "Metrics")
def test_metrics_are_exposed_as_shown() -> None:
    told = samples.section("telemetry.md", "Metrics")
    request = make_request(SERVICE, local_alias="front@example.com")
    assert decide_sync(told.plugin("Desks"), request, config=told.config).decided_by == "desks"
    telemetry = Telemetry()
    telemetry.use_policy(make_policy(told.plugin("Desks"), config=told.config))
    text = expose(telemetry.snapshot()).decode()
    assert all(f"\n{line}\n" in text for line in told.shown("text").splitlines())


@samples.covers("shared-state.md", "What plugins share")
async def test_places_are_shared_and_limited() -> None:
    told = samples.section("shared-state.md", "What plugins share")
    requests = [make_request(SERVICE, local_alias="a@b", remote_alias=caller) for caller in "xyx"]
    policy = make_policy(
        told.plugin("Places"), config={"plugins": {"places": {"settings": {"places": 1}}}}
    )
    async with policy.serving():
        actions = [(await decide(policy, request)).decision.action for request in requests]
    assert actions == ["continue", "reject", "continue"]


@pytest.mark.parametrize("page", samples.PAGES)
def test_every_sample_of_every_page_is_run_by_a_test(page: str) -> None:
    shown = {(page, block.heading) for block in samples.blocks(page)}
    assert shown
    assert (page, "*") in samples.covered or shown <= samples.covered


@pytest.mark.parametrize("page", samples.PAGES)
def test_a_link_leads_somewhere(page: str) -> None:
    for target, anchor in doc_pages.links(samples.FOLDER / page):
        aim = samples.FOLDER / (target or page)
        assert aim.exists(), target
        assert not anchor or anchor in doc_pages.anchors(aim), f"{target}#{anchor}"
