"""What becomes of the answer of a target."""

import io
from typing import Any

import pytest
from PIL import Image

from pexpolicy.explain.explanation import explain
from pexpolicy.explain.request_forms import read_request
from tests.support import fake_plugins, secret_canaries, wire
from tests.support import upstream_policies as policies
from tests.support import upstream_servers as servers

SIP = "call_direction=dial_in&protocol=sip&local_alias=room@example.com"
ENTRY = {"alias": "a@example.com", "description": "A", "username": ""}
CREDENTIALS = {"username": "alice", "password": secret_canaries.WORD}


def picture(kind: str, width: int = 40, height: int = 40) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(out, kind)
    return out.getvalue()


ANSWERS: list[tuple[str, dict[str, Any]]] = [
    (f"{wire.SERVICE}?{SIP}", {"action": "continue", "result": {**servers.ROOM, "pin": "1234"}}),
    (f"{wire.SERVICE}?{SIP}", {"action": "continue", "result": {**servers.ROOM, "new_one": 7}}),
    (f"{wire.SERVICE}?{SIP}", {"action": "reject"}),
    (
        f"{wire.SERVICE}?{SIP}",
        {"action": "redirect", "result": {"new_alias": "sip:sales@example.com"}},
    ),
    (f"{wire.SERVICE}?{SIP}", {"action": "continue"}),
    (wire.PARTICIPANT, {"action": "continue", "result": {"remote_display_name": "Bob"}}),
    (wire.PARTICIPANT, {"action": "reject", "result": {"reject_reason": "closed"}}),
    (wire.LOCATION, {"action": "continue", "result": {"location": "Oslo"}}),
    (f"{wire.REGISTRATION}alice", {"action": "continue", "result": CREDENTIALS}),
    (f"{wire.REGISTRATION}alice", {"action": "reject", "result": {}}),
    (f"{wire.REGISTRATION}alice", {"action": "continue", "result": {}}),
    (f"{wire.DIRECTORY}?q=a&limit=10", {"result": [ENTRY], "ignore_local": True}),
    (f"{wire.DIRECTORY}?q=a&limit=10", {"result": []}),
]


@pytest.mark.parametrize(("asked", "answer"), ANSWERS)
async def test_each_decision_passes_unchanged_and_the_reason_says_who_made_it(
    serving: fake_plugins.Serve, asked: str, answer: dict[str, Any]
) -> None:
    extras = {"decided_by": "theirs", "reason": secret_canaries.WORD, "decision_id": _ID}
    content = servers.reply({"status": "success", **answer, **extras})
    async with policies.relaying(serving, content, name="bookings") as (server, _):
        reply = await server.ask(asked)
    assert reply.status == 200
    body = {k: v for k, v in reply.json.items() if k not in ("status", *extras)}
    assert body == answer
    assert reply.json["decided_by"] == "upstream"
    assert reply.json["reason"] == f"answered by bookings, there {_ID}"
    assert server.steps() == [("upstream", "decided")]


@pytest.mark.parametrize("action", ["allow", "redirect"])
async def test_an_action_next_to_a_room_is_ignored(
    serving: fake_plugins.Serve, action: str
) -> None:
    content = servers.decided(servers.ROOM, action)
    async with policies.relaying(serving, content, name="bookings") as (server, _):
        reply = await server.ask(f"{wire.SERVICE}?{SIP}")
    assert (reply.action, reply.result) == ("continue", servers.ROOM)


@pytest.mark.parametrize(
    "refused",
    [
        {"status": "fail", "action": "reject"},
        {"action": "reject", "result": {"message": "not from here"}},
        {"status": "success", "action": "reject", "result": {"foo": "bar"}},
    ],
)
@pytest.mark.parametrize(
    "asked", [f"{wire.SERVICE}?{SIP}", wire.PARTICIPANT, f"{wire.REGISTRATION}alice"]
)
async def test_a_refusal_of_a_target_is_a_refusal_here(
    serving: fake_plugins.Serve, asked: str, refused: dict[str, Any]
) -> None:
    async with policies.relaying(serving, servers.reply(refused), name="bookings") as (
        server,
        _target,
    ):
        reply = await server.ask(asked)
    assert reply.json["status"] == "success"
    assert reply.json["action"] == "reject"
    assert reply.json["decided_by"] == "upstream"


async def test_a_text_boolean_is_relayed_as_a_boolean_and_the_audit_says_so(
    serving: fake_plugins.Serve,
) -> None:
    route = {
        "targets": ["t"],
        "endpoints": ["service_configuration"],
        "override": {"ivr_theme_name": "night"},
    }
    content = servers.decided({**servers.ROOM, "locked": "true"})
    async with policies.relaying(serving, content, [route], name="t") as (server, _target):
        reply = await server.ask(f"{wire.SERVICE}?{SIP}")
    assert reply.result == {**servers.ROOM, "locked": True, "ivr_theme_name": "night"}
    assert "write true for 'true'" in str(server.lines()[-1]["warnings"])


async def test_another_room_than_the_one_that_dials_out_is_relayed_with_a_warning(
    serving: fake_plugins.Serve,
) -> None:
    query = "call_direction=dial_out&service_name=Running&service_tag=&local_alias=a"
    async with policies.relaying(serving, servers.decided(servers.ROOM), name="t") as (server, _):
        reply = await server.ask(f"{wire.SERVICE}?{query}")
    assert reply.result == servers.ROOM
    assert "name: the running service that dials out" in str(server.lines()[-1]["warnings"])


def contact(name: str, **fields: str) -> dict[str, str]:
    return {"alias": f"{name}@example.com", "description": name, **fields}


@pytest.mark.parametrize(
    ("limit", "entries", "sent", "says"),
    [
        ("10", ["b", "c", "a"], ["b", "c", "a"], "the entries are not sorted"),
        ("2", ["a", "b", "c"], ["a", "b"], "3 entries, and the limit is 2"),
        ("x", ["b", "a"], ["b", "a"], "the entries are not sorted"),
    ],
)
async def test_a_phone_book_that_is_unsorted_or_too_long_is_not_lost(
    serving: fake_plugins.Serve, limit: str, entries: list[str], sent: list[str], says: str
) -> None:
    content = servers.decided([contact(name, username="") for name in entries])
    async with policies.relaying(serving, content, name="t") as (server, _):
        reply = await server.ask(f"{wire.DIRECTORY}?q=&limit={limit}")
    assert [entry["description"] for entry in reply.result] == sent
    assert says in str(server.lines()[-1]["warnings"])


async def test_an_entry_without_a_user_name_gets_an_empty_one_and_one_without_an_alias_is_dropped(
    serving: fake_plugins.Serve,
) -> None:
    for entry, sent in ((contact("a"), [contact("a", username="")]), ({"description": "a"}, [])):
        async with (
            servers.answering(servers.always(servers.decided([entry]))) as target,
            serving(policies.policy({"t": target.url})) as server,
        ):
            reply = await server.ask(f"{wire.DIRECTORY}?q=&limit=10")
        assert reply.result == sent
        assert server.steps() == [("upstream", "decided" if sent else "failed")]


_ID = "01a21043-6653-71f5-82a5-3ad9707745bd"


async def test_a_jpeg_passes_as_it_is_and_one_of_another_size_is_made_to_fit(
    serving: fake_plugins.Serve,
) -> None:
    right, wide = picture("JPEG"), picture("JPEG", 80, 40)
    for sent in (right, wide):
        content = servers.reply(sent, kind="image/jpeg")
        async with (
            servers.answering(servers.always(content)) as target,
            serving(policies.policy({"faces": target.url})) as server,
        ):
            reply = await server.ask(f"{wire.AVATAR}alice?width=40&height=40")
        assert reply.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(reply.body)).size == (40, 40)
        assert (reply.body == sent) is (sent is right)


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("image/jpeg", b"<html>", "not a JPEG"),
        ("image/jpeg", picture("PNG"), "not a JPEG"),
        ("image/jpeg", picture("JPEG")[:200], "cannot be decoded"),
        ("image/png", picture("PNG"), "content type"),
    ],
)
async def test_what_is_no_picture_reaches_no_client(
    serving: fake_plugins.Serve, kind: str, body: bytes, says: str
) -> None:
    async with policies.relaying(serving, servers.reply(body, kind=kind), name="faces") as (
        server,
        _,
    ):
        reply = await server.ask(f"{wire.AVATAR}alice?width=40&height=40")
    assert reply.status == 404
    assert says in server.details()


OVERRIDE = {"ivr_theme_name": "night", "name": "Ours", "enable_chat": "no"}


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (servers.decided({**servers.ROOM, "pin": "12345"}), {**servers.ROOM, "pin": "12345"}),
        (servers.decided(action="reject"), None),
        (servers.decided(), None),
        (servers.decided({"new_alias": "sip:a@b"}, "redirect"), {"new_alias": "sip:a@b"}),
    ],
)
async def test_fields_are_put_over_those_of_a_service_and_over_nothing_else(
    serving: fake_plugins.Serve, answer: bytes, result: dict[str, Any] | None
) -> None:
    route = {"targets": ["t"], "endpoints": ["service_configuration"], "override": OVERRIDE}
    async with policies.relaying(serving, answer, [route], name="t") as (server, target):
        reply = await server.ask(f"{wire.SERVICE}?{SIP}")
        other = await server.ask(wire.LOCATION)
    merged = result if result is None or "new_alias" in result else {**result, **OVERRIDE}
    assert reply.result == merged
    assert other.status == 404
    assert len(target.heads) == 1


async def test_an_override_that_spoils_the_result_is_an_invalid_answer(
    serving: fake_plugins.Serve,
) -> None:
    route = {
        "targets": ["t"],
        "endpoints": ["service_configuration"],
        # Fine by itself, but not without the UUID of the breakout room.
        "override": {"breakout": True},
    }
    room = servers.decided(servers.ROOM)
    async with policies.relaying(serving, room, [route], name="t") as (server, _target):
        assert (await server.ask(f"{wire.SERVICE}?{SIP}")).result is None
    assert server.steps() == [("upstream", "invalid")]


async def test_a_continue_may_be_left_to_the_next_route(serving: fake_plugins.Serve) -> None:
    async with (
        servers.answering(servers.always(servers.decided())) as first,
        servers.answering(servers.always(servers.decided(servers.ROOM))) as second,
    ):
        targets = {"first": first.url, "second": second.url}
        for meaning, result in (("decide", None), ("abstain", servers.ROOM)):
            first_route: dict[str, Any] = {"targets": ["first"], "on_continue": meaning}
            routes = [first_route, {"targets": ["second"]}]
            async with serving(policies.policy(targets, routes)) as server:
                assert (await server.ask(f"{wire.SERVICE}?{SIP}")).result == result


async def test_the_first_route_that_a_call_meets_decides(serving: fake_plugins.Serve) -> None:
    def named(name: str) -> servers.Answer:
        return servers.always(servers.decided({**servers.ROOM, "name": name}))

    async with (
        servers.answering(named("Oslo")) as oslo,
        servers.answering(named("Bookings")) as bookings,
        servers.answering(named("Rest")) as rest,
    ):
        made = policies.policy(
            {"oslo": oslo.url, "bookings": bookings.url, "rest": rest.url},
            [
                {"when": {"location": {"prefix": "Oslo"}}, "targets": ["oslo"]},
                {
                    "when": {"local_alias": {"suffix": "@bookings.example.com"}},
                    "targets": ["bookings"],
                    "endpoints": ["service_configuration"],
                },
                {"targets": ["rest"]},
            ],
        )
        asked = {
            "local_alias=a@bookings.example.com&location=Oslo+1": "Oslo",
            "local_alias=a@bookings.example.com": "Bookings",
            "local_alias=a@example.com": "Rest",
        }
        async with serving(made) as server:
            base = f"{wire.SERVICE}?call_direction=dial_in&protocol=sip"
            for query, name in asked.items():
                assert (await server.ask(f"{base}&{query}")).result["name"] == name
    assert [len(t.heads) for t in (oslo, bookings, rest)] == [1, 1, 1]


async def test_explain_says_which_routes_a_call_met() -> None:
    async with servers.answering(servers.always(servers.decided(servers.ROOM))) as target:
        routes: list[dict[str, Any]] = [
            {"targets": ["t"], "when": {"location": "Oslo"}},
            {"targets": ["t"]},
        ]
        made = policies.policy({"t": target.url}, routes)
        async with made.serving():
            explained = await explain(made, read_request(f"{wire.SERVICE}?location=Bergen&{SIP}"))
    first, second = explained.notes
    assert first.startswith("route 1 (t): ")
    assert "Bergen" in first
    assert second == "route 2 (t) is asked"
