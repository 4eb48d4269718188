"""The how-to for authors of plugins: each section's plugin does what the text says."""

import sqlite3
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image

from pexpolicy import Avatar, Conference, Directory, MediaLocation
from pexpolicy.testing import ConfigError, Outcome, decide, decide_sync, make_policy, make_request
from tests.support import doc_pages, samples

HOW_TO = "how-to.md"


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


@samples.covers(HOW_TO, "Settings")
@pytest.mark.parametrize(
    ("who", "room", "view"),
    [
        ("alice", "Alice's Desk", "one_main_seven_pips"),
        ("bob", "Bob's Desk", "one_main_zero_pips"),
    ],
)
def test_settings_are_a_model_with_paths_relative_to_the_configuration(
    who: str, room: str, view: str
) -> None:
    Path("on-duty.txt").write_text(f"{who}\n")
    outcome = asked("Settings", "Rota", "service_configuration", local_alias="desk@example.com")
    assert outcome.decision == Conference(name=room, service_tag="desk", view=view)


@samples.covers(HOW_TO, "Fields of a decision as settings")
def test_fields_of_a_decision_are_checked_as_shown() -> None:
    told = samples.section(HOW_TO, "Fields of a decision as settings")
    with pytest.raises(ConfigError) as refused:
        make_policy(told.plugin("Booths"), config=told.config)
    problems = "".join(f"  {problem}\n" for problem in refused.value.problems)
    assert told.shown("text") == f"config.toml: 1 error\n{problems}"
    settings = dict(told.config["plugins"]["booths"]["settings"], look={"ivr_theme_name": "Blue"})
    request = make_request("service_configuration", local_alias="sip:Red@example.com")
    outcome = decide_sync((told.names["Booths"], settings), request)
    assert outcome.decision == Conference(
        name="Red Booth", service_tag="booth", ivr_theme_name="Blue"
    )


@samples.covers(HOW_TO, "A typed base class")
def test_a_subclass_of_plugin_has_the_hooks_that_it_overrides() -> None:
    outcome = asked("A typed base class", "Nearest", "media_location")
    assert outcome.decision == MediaLocation(location="Oslo")


@samples.covers(HOW_TO, "Mistakes that types do not find")
def test_mistakes_are_named_as_shown() -> None:
    told = samples.section(HOW_TO, "Mistakes that types do not find")
    with pytest.raises(ConfigError) as refused:
        make_policy(told.plugin("Hours"), config=told.config)
    problems = "".join(f"  {problem}\n" for problem in refused.value.problems)
    assert told.shown("text") == f"config.toml: 1 error\n{problems}"


@pytest.mark.parametrize(("hour", "action"), [(7, "reject"), (8, "continue"), (16, "reject")])
def test_hours_refuses_calls_outside_of_its_hours(
    hour: int, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = samples.section(HOW_TO, "Mistakes that types do not find")
    monkeypatch.setattr(told.names["Hours"], "_now", lambda _: hour)
    settings = {"open": {"sip:Clinic@example.com": [8, 16]}}
    request = make_request("service_configuration", local_alias="clinic@example.com")
    assert decide_sync((told.names["Hours"], settings), request).decision.action == action


@samples.covers(HOW_TO, "Conditions")
@pytest.mark.parametrize(("address", "role"), [("10.1.2.3", "chair"), ("192.0.2.1", None)])
def test_conditions_are_settings_of_any_plugin(address: str, role: str | None) -> None:
    caller = {"remote_address": address, "idp_attributes": {"groups": "meeting hosts"}}
    outcome = asked("Conditions", "Escorts", "participant_properties", **caller)
    assert outcome.decision.set_fields().get("preauthenticated_role") == role


@samples.covers(HOW_TO, "Subnets and CSV files")
@pytest.mark.parametrize(
    ("address", "name"),
    [("10.1.2.3", "Dana (Oslo)"), ("2001:db8::1", "Dana (Bergen)"), ("192.0.2.1", None)],
)
def test_subnets_come_from_a_file(address: str, name: str | None) -> None:
    Path("branches.csv").write_text("\ufeffsubnet;name\n10.1.0.0/16;Oslo\n2001:db8::/32;Bergen\n")
    caller = {"remote_address": address, "remote_display_name": "Dana"}
    outcome = asked("Subnets and CSV files", "Branches", "participant_properties", **caller)
    assert outcome.decision.set_fields().get("remote_display_name") == name


def test_wrong_lines_of_a_file_are_named_as_shown() -> None:
    lines = ("subnet,name", "10.1.0.0/33,Oslo", "10.2.0.0/16,Oslo", "10.2.0.0/16,Bergen")
    Path("branches.csv").write_text("\n".join(lines))
    told = samples.section(HOW_TO, "Subnets and CSV files")
    with pytest.raises(ConfigError) as refused:
        make_policy(told.plugin("Branches"), config=told.config)
    problems = "".join(f"  {problem}\n" for problem in refused.value.problems)
    assert told.shown("text") == f"config.toml: 2 errors\n{problems}"


@samples.covers(HOW_TO, "Secrets")
@pytest.mark.parametrize(("shown", "action"), [("let me in", "continue"), ("", "reject")])
def test_a_secret_comes_from_the_environment(
    shown: str, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFERENCE_TICKET", "let me in")
    outcome = asked("Secrets", "Ticket", "participant_properties", call_tag=shown)
    assert outcome.decision.action == action


def test_a_secret_that_is_missing_is_named_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONFERENCE_TICKET", raising=False)
    with pytest.raises(ConfigError, match=r"settings\.ticket_env: the environment variable"):
        asked("Secrets", "Ticket", "participant_properties")


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
        request = make_request("participant_properties", remote_alias=alias)
        outcome = await decide(plugin, request)
    assert steps(outcome) == [expected]
    if expected == "decided":
        assert outcome.decision.set_fields() == {"remote_display_name": "Alice of Accounts"}
    make_policy(told.plugin("Staff"), config=told.config)


@samples.covers(HOW_TO, "Code that blocks")
@pytest.mark.parametrize(
    ("alias", "action"), [("gone@x.org", "reject"), ("here@x.org", "continue")]
)
def test_code_that_blocks_is_a_plain_function(alias: str, action: str) -> None:
    with closing(sqlite3.connect("inventory.sqlite")) as database:
        database.execute("CREATE TABLE stolen (alias TEXT)")
        database.execute("INSERT INTO stolen VALUES ('gone@x.org')")
        database.commit()
    outcome = asked("Code that blocks", "Inventory", "registration_alias", alias=alias)
    assert outcome.decision.action == action
    assert steps(outcome) != ["failed"]


@samples.covers(HOW_TO, "Abstain, continue or reject")
def test_continue_keeps_an_alias_from_later_plugins() -> None:
    told = samples.section(HOW_TO, "Abstain, continue or reject")
    rooms = {"rooms": {"settings": {"default_room": "Room of {local_alias}"}}}
    config = {"plugins": {**told.config["plugins"], **rooms}}

    def decided_by(alias: str) -> str:
        request = make_request("service_configuration", local_alias=alias)
        return decide_sync(told.plugin("Own"), request, config=config).decided_by

    assert [decided_by("meet.alice"), decided_by("bob")] == ["own", "rooms"]


@samples.covers(HOW_TO, "The same decision with other fields")
@pytest.mark.parametrize(
    ("caller", "sent"),
    [
        ("dana@elsewhere.example", {"pin": "471100", "ivr_theme_name": "Oslo"}),
        ("dana@example.com", {"ivr_theme_name": "Silent"}),
    ],
)
def test_a_decision_is_replaced_in_part(caller: str, sent: dict[str, str]) -> None:
    outcome = asked(
        "The same decision with other fields",
        "Quiet",
        "service_configuration",
        local_alias="board@example.com",
        remote_alias=caller,
    )
    room = Conference(name="Board", service_tag="board").set_fields()
    assert outcome.decision.set_fields() == {**room, **sent}


@samples.covers(HOW_TO, "Several hooks")
def test_several_hooks_are_joined_by_the_service_tag() -> None:
    def clinic(endpoint: str, **fields: Any) -> Outcome:
        return asked("Several hooks", "Clinic", endpoint, **fields)

    room = clinic("service_configuration", local_alias="sip:patient-7@example.com").decision
    assert room == Conference(name="Patient 7", service_tag="clinic")
    caller = clinic("participant_properties", service_tag="clinic", registered=False).decision
    assert caller.set_fields() == {"remote_display_name": "Patient"}
    media = clinic("media_location", service_tag="clinic").decision
    assert media == MediaLocation(location="Clinic")
    others: dict[str, dict[str, Any]] = {
        "service_configuration": {"local_alias": "patient-x@example.com"},
        "participant_properties": {"service_tag": "clinic", "registered": True},
        "media_location": {"service_tag": "other"},
    }
    assert all(steps(clinic(name, **fields)) == ["abstained"] for name, fields in others.items())


@samples.covers(HOW_TO, "Pictures")
@pytest.mark.parametrize(
    ("alias", "found"),
    [
        ("sip:Alice@example.com", True),
        ("bob@example.com", False),
        ("alice@example.org", False),
        ("../faces/alice@example.com", False),
    ],
)
def test_a_picture_is_looked_up_and_made_to_fit(alias: str, found: bool) -> None:
    Path("faces").mkdir()
    Image.new("RGB", (64, 64), "red").save("faces/Alice.jpg")
    picture = asked("Pictures", "Faces", "participant_avatar", alias=alias, width=32, height=16)
    assert isinstance(picture.decision, Avatar) is found
    if isinstance(picture.decision, Avatar):
        assert Image.open(BytesIO(picture.decision.image)).size == (32, 16)


@samples.covers(HOW_TO, "A phone book")
@pytest.mark.parametrize(
    ("text", "limit", "found"),
    [("", 10, ["Bridge", "Engine room"]), ("ENG", 10, ["Engine room"]), ("", 1, ["Bridge"])],
)
def test_a_phone_book_answers_from_memory(text: str, limit: int, found: list[str]) -> None:
    decision = asked("A phone book", "Crew", "directory_information", q=text, limit=limit).decision
    assert isinstance(decision, Directory)
    assert [entry["description"] for entry in decision.set_fields()["entries"]] == found
    assert decision.ignore_local is True


@samples.covers(HOW_TO, "Attributes from an identity provider")
@pytest.mark.parametrize(
    ("groups", "decided"),
    [
        (["Everybody", "DIRECTORS"], {"preauthenticated_role": "chair"}),
        (["Advisers"], {"preauthenticated_role": "guest"}),
        (["Directors", "Auditors"], {"preauthenticated_role": "chair"}),
        (["Everybody"], {"reject_reason": "You are not on the list."}),
        ([], {"reject_reason": "You are not on the list."}),
    ],
)
def test_groups_of_an_identity_provider_decide(groups: list[str], decided: dict[str, str]) -> None:
    outcome = asked(
        "Attributes from an identity provider",
        "Members",
        "participant_properties",
        service_tag="board",
        idp_attributes={"groups": groups},
    )
    assert outcome.decision.set_fields() == decided


@samples.covers(HOW_TO, "Decisions that Infinity would drop")
@pytest.mark.parametrize(
    ("alias", "sent"),
    [("alice@example.com", {"pin": "4711"}), ("bob@example.com", {"locked": True})],
)
def test_a_decision_that_infinity_would_drop_can_be_caught(
    alias: str, sent: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    outcome = asked(
        "Decisions that Infinity would drop", "Booking", "service_configuration", local_alias=alias
    )
    assert steps(outcome) == ["decided"]
    assert sent.items() <= outcome.decision.set_fields().items()
    assert "bob's" not in caplog.text


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
