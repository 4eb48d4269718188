"""The reference of the hooks: it has each hook as it is, with a plugin that works."""

import ast
import inspect
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from pexpolicy import (
    UNSET,
    Avatar,
    Conference,
    Continue,
    Credentials,
    Decision,
    Directory,
    DirectoryEntry,
    Gateway,
    MediaLocation,
    ParticipantProperties,
    Reject,
)
from pexpolicy.builder import build_policy
from pexpolicy.config.settings import ConfigError
from pexpolicy.events import Event
from pexpolicy.hooks import HOOKS as SPECIFIED
from pexpolicy.models.event import typed_event
from pexpolicy.observability.status import PluginStatuses
from pexpolicy.plugins.binding import checks_of, configuration_changes
from pexpolicy.testing import Outcome, decide, decide_sync, make_policy, make_request, server
from pexpolicy.testing.coverage import Coverage
from tests.support import samples, wire
from tests.support.admin_client import serve_with_admin
from tests.support.fake_plugins import always, available, plugin, settings

REFERENCE = "hooks.md"


def signature(source: str) -> str:
    """The one function of a source, without body, decorators, self and what an await gives."""
    tree = ast.parse(textwrap.dedent(source))
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    function.args.args = [a for a in function.args.args if a.arg != "self"]
    returned = function.returns
    if isinstance(returned, ast.Subscript) and ast.unparse(returned.value) == "MaybeAwaitable":
        returned = returned.slice
    gives = ast.unparse(returned) if returned else ""
    return f"{function.name}({ast.unparse(function.args)}) -> {gives}"


@pytest.mark.parametrize("hook", SPECIFIED)
def test_the_reference_has_the_exact_signature(hook: str) -> None:
    shown = [block.text for block in samples.blocks(REFERENCE) if block.heading == hook]
    assert shown, f"{REFERENCE} has no entry for {hook}"
    assert signature(shown[0]) == signature(inspect.getsource(SPECIFIED[hook]))


@pytest.mark.parametrize("hook", SPECIFIED)
def test_the_reference_says_first_what_the_hook_is_asked(hook: str) -> None:
    page = (samples.FOLDER / REFERENCE).read_text()
    first = (inspect.getdoc(SPECIFIED[hook]) or "").partition("\n")[0].replace("``", "`")
    assert f"## {hook}\n\n{first}\n" in page


def test_the_reference_has_no_hook_that_does_not_exist() -> None:
    assert {block.heading for block in samples.blocks(REFERENCE)} == SPECIFIED.keys()


def only(hook: str) -> Any:
    """The plugin that the entry of a hook shows; it has that hook."""
    names = samples.section(REFERENCE, hook).names
    (plugin,) = [value for value in names.values() if _has(hook, value, names["__name__"])]
    return plugin


def _has(hook: str, value: object, module: str) -> bool:
    return inspect.isclass(value) and value.__module__ == module and hasattr(value, hook)


ASKED: list[tuple[str, dict[str, Any], Any]] = [
    ("service_configuration", {"local_alias": "sip:7123@example.com"}, Gateway),
    ("service_configuration", {"local_alias": "7up"}, "default"),
    ("participant_properties", {"service_tag": "board", "remote_alias": "tel:+4712"}, Reject),
    ("participant_properties", {"service_tag": "board", "remote_alias": "sip:a@b"}, "default"),
    ("media_location", {"protocol": "webrtc"}, MediaLocation),
    ("media_location", {"protocol": "sip"}, "default"),
    ("participant_avatar", {"alias": "a@example.com", "width": 20, "height": 20}, Avatar),
    ("directory_information", {"q": "He"}, Directory),
    ("directory_information", {"q": ""}, "default"),
    ("registration_alias", {"alias": "kiosk-1@b.example", "remote_address": "10.7.0.9"}, Continue),
    ("registration_alias", {"alias": "kiosk-1@b.example", "remote_address": "10.70.0.9"}, Reject),
]


samples.covered.update((REFERENCE, hook) for hook, _, _ in ASKED)


@pytest.mark.parametrize(("hook", "fields", "expected"), ASKED)
def test_a_hook_that_decides(hook: str, fields: dict[str, Any], expected: type | str) -> None:
    outcome = decide_sync(only(hook), make_request(hook, **fields))
    assert expected in (type(outcome.decision), outcome.decided_by)


def adjusted(endpoint: str, decision: Decision, adjuster: Any = None, **fields: Any) -> Outcome:
    """The outcome of a decision that the plugin of an entry adjusts."""
    decides = plugin(**{endpoint: always(decision)})
    request = make_request(endpoint, **fields)
    return decide_sync([decides, adjuster or only(f"adjust_{endpoint}")], request)


@samples.covers(REFERENCE, "restrict_service_configuration")
def test_hook_restrict_service_configuration() -> None:
    room = Conference(name="Board", service_tag="", max_callrate_in=256_000)
    hook = "restrict_service_configuration"
    for known, narrowed in ((room, 256_000), (room.replace(max_callrate_in=UNSET), 512_000)):
        outcome = adjusted("service_configuration", known, only(hook), location="Ships")
        assert outcome.decision.set_fields()["max_callrate_in"] == narrowed


@samples.covers(REFERENCE, "restrict_participant_properties")
def test_hook_restrict_participant_properties() -> None:
    blind = only("restrict_participant_properties")
    for decision in (Continue(), ParticipantProperties(spotlight=1)):
        outcome = adjusted("participant_properties", decision, blind, remote_alias="tel:+47")
        assert outcome.decision.set_fields()["rx_presentation_policy"] == "DENY"
    assert adjusted("participant_properties", Continue(), blind).decision == Continue()


@samples.covers(REFERENCE, "adjust_service_configuration")
def test_hook_adjust_service_configuration() -> None:
    room = Conference(name="Board", service_tag="")
    outcome = adjusted("service_configuration", room)
    assert outcome.decision == room.replace(ivr_theme_name="Company")
    assert [step.outcome for step in outcome.steps] == ["decided", "adjusted"]
    own = room.replace(ivr_theme_name="Oslo")
    assert adjusted("service_configuration", own).decision == own


@samples.covers(REFERENCE, "adjust_participant_properties")
def test_hook_adjust_participant_properties() -> None:
    fields = {"remote_display_name": "Dana"}
    outcome = adjusted("participant_properties", Reject(), **fields)
    assert outcome.decision == Reject(reject_reason="Dana: call 4711 for help.")
    given = Reject(reject_reason="Closed.")
    assert adjusted("participant_properties", given, **fields).decision == given


@samples.covers(REFERENCE, "adjust_media_location")
def test_hook_adjust_media_location() -> None:
    outcome = adjusted("media_location", MediaLocation(location="Bergen"))
    assert outcome.decision == MediaLocation(location="Bergen", overflow_locations=["Oslo"])
    assert adjusted("media_location", Continue()).decision == Continue()


@samples.covers(REFERENCE, "adjust_participant_avatar")
@pytest.mark.parametrize(("role", "shown"), [("guest", Continue), ("chair", Avatar)])
def test_hook_adjust_participant_avatar(role: str, shown: type) -> None:
    request = make_request("participant_avatar", alias="a@example.com", width=20, height=20)
    picture = decide_sync(only("participant_avatar"), request).decision
    outcome = adjusted("participant_avatar", picture, alias="a@example.com", role=role)
    assert type(outcome.decision) is shown


@samples.covers(REFERENCE, "adjust_directory_information")
def test_hook_adjust_directory_information() -> None:
    entries = [DirectoryEntry(alias=a, description=a) for a in ("lab-1@b.example", "a@b.example")]
    outcome = adjusted("directory_information", Directory(entries=entries), q="")
    assert outcome.decision == Directory(entries=entries[1:])


@samples.covers(REFERENCE, "adjust_registration_alias")
@pytest.mark.parametrize(("hour", "action"), [(5, "reject"), (6, "continue")])
def test_hook_adjust_registration_alias(
    hour: int, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    curfew = only("adjust_registration_alias")
    monkeypatch.setattr(curfew, "_hour", lambda _: hour)
    device = Credentials(username="u", password="p")
    outcome = adjusted("registration_alias", device, curfew, alias="a@b.example")
    assert outcome.decision.action == action


@samples.covers(REFERENCE, "lifespan")
async def test_hook_lifespan() -> None:
    plugin = only("lifespan")(None)
    assert plugin._name == ""
    outcome = await decide(plugin, make_request("participant_properties"))
    assert outcome.decision.set_fields() == {"remote_display_name": "Friend"}
    assert plugin._name == ""


@samples.covers(REFERENCE, "on_decision")
async def test_hook_on_decision() -> None:
    plugin = only("on_decision")(None)
    for _ in range(2):
        await decide(plugin, make_request("media_location"))
    await decide(plugin, make_request("participant_avatar"))
    assert plugin.counts == {("media_location", "default"): 2, ("participant_avatar", "default"): 1}


@samples.covers(REFERENCE, "on_decisions")
async def test_hook_on_decisions(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    journal = (only("on_decisions"), {"file": str(file)})
    for endpoint in ("media_location", "participant_avatar"):
        await decide(journal, make_request(endpoint))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["endpoint"] for line in lines] == ["media_location", "participant_avatar"]


def participant(**data: object) -> Event:
    envelope = {"node": "10.0.0.1", "seq": 1, "version": 2, "time": 1.0, "data": data}
    return typed_event({**envelope, "event": "participant_updated"}, "default", 2.0)


@samples.covers(REFERENCE, "on_event")
async def test_hook_on_event() -> None:
    doorbell = only("on_event")(None)
    for expected, kind in (({("default", "u")}, "waiting_room"), (set(), "conference")):
        await doorbell.on_event(participant(uuid="u", service_type=kind))
        assert doorbell.waiting == expected


@samples.covers(REFERENCE, "on_events")
def test_hook_on_events(tmp_path: Path) -> None:
    plugin = only("on_events")
    file = tmp_path / "events.jsonl"
    plugin(plugin.Settings(file=file)).on_events([participant(), participant()])
    assert file.read_text() == '["participant_updated", "10.0.0.1", 1.0]\n' * 2


@samples.covers(REFERENCE, "static_decisions")
def test_hook_static_decisions() -> None:
    plugin = only("static_decisions")
    known: Any = {"infinity": {"themes": ["Summer"]}}
    tables: Any = {"lobby": {"settings": {"theme": "Summer"}}}
    found = available({"lobby": plugin})
    assert build_policy(settings(tables, **known), available=found).warnings == ()
    tables["lobby"]["settings"]["theme"] = "Sumer"
    with pytest.raises(ConfigError, match="did you mean 'Summer'") as caught:
        build_policy(settings(tables, **known), available=found)
    (problem,) = caught.value.problems
    assert problem.key == ("plugins", "lobby", "settings", "ivr_theme_name")


@samples.covers(REFERENCE, "config_warnings")
@pytest.mark.parametrize(("pin", "warned"), [("", True), ("4711", False)])
def test_hook_config_warnings(pin: str, warned: bool) -> None:
    plugin = only("config_warnings")
    warnings = [str(warning) for warning in make_policy((plugin, {"pin": pin})).warnings]
    assert warnings == warned * [
        "plugins.welcome.settings.pin: is empty: anyone who can dial in enters the room"
    ]
    outcome = decide_sync((plugin, {"pin": pin}), make_request("service_configuration"))
    assert isinstance(outcome.decision, Conference)


@samples.covers(REFERENCE, "status")
async def test_hook_status() -> None:
    policy = make_policy((only("status"), {"rooms": ["board", "lobby"]}))
    async with policy.serving():
        for alias in ("sip:board@example.com", "sip:lobby@example.com", "elsewhere"):
            request = make_request("service_configuration", local_alias=alias)
            await policy.answer(request, "an id")
        told = await PluginStatuses().collect(policy.plugins)
    assert told == {"counter": {"status": {"rooms": 2, "calls": 2}}}


@samples.covers(REFERENCE, "checks")
async def test_hook_checks(tmp_path: Path) -> None:
    (plugin,) = make_policy((only("checks"), {"depot": str(tmp_path)})).plugins
    assert await checks_of(plugin) == [("folder", True, str(tmp_path))]


@samples.covers(REFERENCE, "routes")
async def test_hook_routes(tmp_path: Path) -> None:
    policy = make_policy(only("routes"))
    async with serve_with_admin(policy, tmp_path) as server:
        closed = await server.operator("/plugins/closing/closed/board", method="PUT")
        assert closed.status == 204
        assert (await server.operator("/plugins/closing/closed")).json == ["board"]
        reply = await server.ask(f"{wire.SERVICE}?local_alias=sip:board%40example.com")
        assert reply.action == "reject"


@samples.covers(REFERENCE, "api_routes")
async def test_hook_api_routes(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("right")
    booking = only("api_routes"), {"key_file": str(tmp_path / "key")}
    async with server(booking, config={"api": {}}) as running, ClientSession() as http:
        for token, status in (("wrong", 401), ("right", 204)):
            headers = {"Authorization": f"Bearer {token}"}
            url = f"{running.api_url}/api/v1/rooms/board"
            assert (await http.put(url, headers=headers)).status == status
        query = {"local_alias": "sip:board@example.com"}
        url = f"{running.url}/policy/v1/service/configuration"
        reply = await (await http.get(url, params=query)).json()
        assert reply["result"] == {
            "name": "board",
            "service_tag": "booked",
            "service_type": "conference",
        }


@samples.covers(REFERENCE, "coverage_items")
async def test_hook_coverage_items() -> None:
    policy = make_policy((only("coverage_items"), {"names": ["north", "south"]}))
    coverage = Coverage(policy)
    request = make_request("service_configuration", local_alias="north")
    async with policy.serving():
        coverage.add((await policy.answer(request, "")).outcome)
    assert [item.name for item in coverage.items] == ["north", "south"]
    assert [item.name for item, count in coverage.used.items() if count] == ["north"]


@samples.covers(REFERENCE, "tracked_files")
def test_hook_tracked_files(tmp_path: Path) -> None:
    listed = tmp_path / "closed.txt"
    listed.write_text("sip:Mallory@example.net\n")
    subject = (only("tracked_files"), {"file": str(listed)})
    before = make_policy(subject)
    assert listed in before.files
    for caller, action in (
        ("sip:mallory@example.net", "reject"),
        ("alice@example.com", "continue"),
    ):
        request = make_request("service_configuration", remote_alias=caller)
        assert decide_sync(subject, request).decision.action == action
    listed.write_text("trudy@example.net\n")
    assert make_policy(subject).policy_hash != before.policy_hash


@samples.covers(REFERENCE, "changes_since")
def test_hook_changes_since() -> None:
    before, after = (
        make_policy((only("changes_since"), {"closed": closed}))
        for closed in (["a@example.com"], ["A@example.com", "sip:b@example.com"])
    )
    written = "configuration: changed plugins.closed.settings.closed"
    for new, old, told in (
        (after, before, [written, "closed: closed b@example.com"]),
        (before, after, [written]),
    ):
        assert configuration_changes(new, old) == told
