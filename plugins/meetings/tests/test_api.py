"""The API over HTTP, on two servers with one database that are asked in turn."""

import asyncio
import json
from typing import Any

import pytest
from yarl import URL

from tests.support.meetings_api import CRM_7, Site
from tests.support.waiting import HANG_S, until

ROOM = {
    "name": "812345678",
    "service_tag": "t=acme&m=crm-7",
    "service_type": "conference",
    "description": "Review",
    "pin": "471100",
    "allow_guests": True,
    "guest_pin": "081500",
}


def rejected(reason: str) -> dict[str, Any]:
    return {"status": "success", "action": "reject", "decided_by": "meetings", "reason": reason}


# ---- the acceptance cases


async def test_meeting_is_created_once(site: Site) -> None:
    first = await site.api("PUT", "meetings/crm-7", CRM_7)
    assert (first.status, first.json["state"]) == (201, "open")
    assert first.headers["Location"] == "/api/v1/meetings/crm-7"
    assert first.json["start"] == "2030-06-01T08:00:00Z"
    assert (first.json["host_pin"], first.json["guest_pin"]) == ("471100", "081500")
    again = await site.api("PUT", "meetings/crm-7", CRM_7)
    assert (again.status, again.headers["ETag"]) == (200, first.headers["ETag"])
    listed = (await site.api("GET", "meetings")).json
    assert [one["id"] for one in listed["items"]] == ["crm-7"]
    assert listed["next"] is None
    assert [(one["action"], one["token"], one["meeting"]) for one in site.changes] == [
        ("meeting_created", "ACME", "crm-7")
    ]


async def test_calls_get_the_meeting_while_it_is_open(site: Site) -> None:
    await site.api("PUT", "meetings/crm-7", CRM_7)
    alias = "812345678@acme.example.com"
    for called in (f"sip:{alias}", "812345678", f"sip:{alias};transport=tls", f"sip:{alias}"):
        found = await site.call(called)
        assert (found["action"], found["result"]) == ("continue", ROOM), called
        assert found["decided_by"] == "meetings"
    for time, reason in (
        ("2030-06-01T07:29:59Z", "opens at 2030-06-01T07:30:00Z"),
        ("2030-06-01T10:00:00Z", "ended"),
    ):
        site.at(time)
        assert await site.call(f"sip:{alias}") == rejected(reason)
    site.at("2030-06-01T07:30:00Z")
    assert (await site.call(f"sip:{alias}"))["result"] == ROOM
    assert "result" not in await site.call(f"sip:{alias}", "non_dial")


async def test_other_tenants_and_tokens_learn_nothing(site: Site) -> None:
    await site.api("PUT", "meetings/crm-7", CRM_7)
    there, never = [
        await site.api("GET", f"meetings/{one}", token="BOLT") for one in ("crm-7", "none")
    ]
    assert (there.status, there.body) == (404, never.body)
    assert there.headers.keys() == never.headers.keys()
    for name in ("", "NONE", "OLD"):
        refused = await site.api("GET", "meetings/crm-7", token=name)
        assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    seen = await site.api("GET", "meetings/crm-7", token="READER")
    assert seen.status == 200
    assert not {"host_pin", "guest_pin"} & seen.json.keys()
    assert (await site.api("DELETE", "meetings/crm-7", token="READER")).status == 403
    both = [("Authorization", f"Bearer TOKEN_OF_{name}") for name in ("ACME", "BOLT")]
    url = f"{next(site.servers).api_url}/api/v1/meetings/crm-7"
    async with site.http.get(url, headers=both) as reply:
        assert reply.status == 401


async def test_alias_is_that_of_one_meeting_at_a_time(site: Site) -> None:
    await site.api("PUT", "meetings/crm-7", CRM_7)
    foreign = await site.api("PUT", "meetings/crm-8", CRM_7, token="BOLT")
    assert (foreign.status, foreign.pointers) == (403, ["/aliases/0"])
    assert foreign.headers["Content-Type"] == "application/problem+json"
    assert (await site.api("PUT", "meetings/crm-8", CRM_7)).status == 409
    refused = [one for one in site.changes if one["action"] == "meeting_refused"]
    assert [(one["token"], one["meeting"], one["status"], one["errors"]) for one in refused] == [
        ("BOLT", "crm-8", 403, ["/aliases/0 is not one of the aliases of this tenant"]),
        ("ACME", "crm-8", 409, ["/aliases/0 is in use at that time"]),
    ]
    later = {**CRM_7, "start": "2030-06-02T10:00:00+02:00", "end": "2030-06-02T11:00:00+02:00"}
    assert (await site.api("PUT", "meetings/crm-8", later)).status == 201


async def test_repeated_post_creates_nothing(site: Site) -> None:
    body = {"start": CRM_7["start"], "end": CRM_7["end"]}
    first = await site.api("POST", "meetings", body, Idempotency_Key='"k1"')
    second = await site.api("POST", "meetings", body, Idempotency_Key='"k1"')
    assert (first.status, second.status) == (201, 201)
    assert first.json == second.json
    assert first.headers["Location"] == second.headers["Location"]
    several = [site.api("POST", "meetings", body, Idempotency_Key='"k2"') for _ in range(8)]
    replies = await asyncio.gather(*several)
    assert {one.status for one in replies} == {201}
    assert len({one.json["id"] for one in replies}) == 1
    other = {**body, "title": "Other"}
    assert (await site.api("POST", "meetings", other, Idempotency_Key='"k1"')).status == 422
    assert len((await site.api("GET", "meetings")).json["items"]) == 2
    actions = [one["action"] for one in site.changes]
    assert actions == ["meeting_created"] * 2 + ["meeting_refused"]


async def test_all_mistakes_are_named_at_once_without_a_pin(site: Site) -> None:
    body = {
        "start": "2030-06-01T10:00:00",
        "end": "2030-06-01T09:00:00Z",
        "host_pin": 4711,
        "guest_pin": "12a456",
    }
    refused = await site.api("PUT", "meetings/x", body)
    assert (refused.status, len(refused.json["errors"])) == (422, 4)
    assert sorted(refused.pointers) == ["/end", "/guest_pin", "/host_pin", "/start"]
    assert (await site.api("GET", "meetings/x")).status == 404
    assert not any(pin in refused.body.decode() + str(site.lines) for pin in ("4711", "12a456"))


async def test_meeting_is_extended_and_cancelled(site: Site) -> None:
    first = await site.api("PUT", "meetings/crm-7", CRM_7)
    etag, patch = first.headers["ETag"], {"end": "2030-06-01T09:30:00Z"}
    for kind in ("application/merge-patch+json", "application/json"):
        changed = await site.api("PATCH", "meetings/crm-7", patch, If_Match=etag, Content_Type=kind)
        assert (changed.status, changed.json["end"]) == (200, patch["end"])
        etag = changed.headers["ETag"]
    site.at("2030-06-01T10:29:00Z")
    assert (await site.call("812345678"))["result"] == ROOM
    stale = await site.api("PATCH", "meetings/crm-7", patch, If_Match=first.headers["ETag"])
    assert stale.status == 412
    assert site.changes[-2]["changed"] == ["end"]
    for _ in range(2):
        assert (await site.api("DELETE", "meetings/crm-7")).status == 204
    assert await site.call("812345678") == rejected("cancelled")
    assert (await site.api("DELETE", "meetings/none")).status == 404
    assert (await site.api("GET", "meetings/crm-7")).json["state"] == "cancelled"
    assert (await site.api("GET", "meetings")).json["items"] == []


async def test_invitation_has_an_alias_of_its_own(site: Site) -> None:
    await site.api("PUT", "meetings/crm-7", CRM_7)
    body = {"name": "Ann", "role": "guest", "uses": 1}
    made = await site.api("POST", "meetings/crm-7/invitations", body)
    assert made.status == 201
    found = await site.call(f"sip:{made.json['alias']}")
    assert found["result"]["name"] == "812345678"
    place = f"meetings/crm-7/invitations/{made.json['id']}"
    raised = await site.api("PATCH", place, {"uses": 2})
    assert (raised.status, raised.json["uses"]) == (200, 2)
    reset = (await site.api("PATCH", place, {"uses": None, "name": None})).json
    assert (reset["uses"], reset["name"], reset["role"]) == (1, "", "guest")
    assert (await site.api("DELETE", place)).status == 204
    assert (await site.api("DELETE", place)).status == 404
    assert "result" not in await site.call(f"sip:{made.json['alias']}")


ANN: dict[str, Any] = {
    "uuid": "u-1",
    "conference": "812345678",
    "call_direction": "in",
    "protocol": "SIP",
}
ANN |= {"service_tag": "t=acme&m=crm-7", "conversation_id": "c-1", "has_media": True}
INSIDE: dict[str, Any] = {"service_type": "conference", "connect_time": 1906531201.0}


async def test_people_are_counted_once_they_are_in(counted: Site) -> None:
    await counted.api("PUT", "meetings/crm-7", CRM_7)
    assert await counted.report("eventsink_started") == 200
    connecting = {**ANN, "service_type": "connecting", "connect_time": None}
    assert await counted.report("participant_connected", 2, **connecting) == 200
    waiting = {**ANN, "service_type": "waiting_room", "connect_time": 1906531201.0}
    await counted.report("participant_updated", 3, **waiting)
    await counted.counts(participants=0, waiting=1)
    await counted.report("participant_updated", 4, **ANN, **INSIDE, role="chair")
    await counted.counts(participants=1, waiting=0, hosts=1)
    assert (await counted.api("GET", "meetings/crm-7")).json["state"] == "running"
    assert await counted.report("participant_disconnected", 5, "sink:wrong", **ANN) == 401
    assert await counted.send(b"no json") == 400
    await counted.counts("live", participants=1)
    assert (await counted.api("GET", "meetings/crm-7/live", token="BOLT")).status == 404
    assert (await counted.api("GET", "live", token="BOLT")).json["participants"] == 0
    assert (await counted.api("GET", "live", token="READER")).status == 403


async def test_people_are_counted_once_each(counted: Site) -> None:
    await counted.api("PUT", "meetings/crm-7", CRM_7)
    inner = [
        {"event": "participant_connected", "node": "10.0.0.1", "seq": seq, "version": 2}
        | {"time": 1906531200.0 + seq, "data": {**ANN, **INSIDE, "uuid": uuid, **more}}
        for seq, uuid, more in (
            (5, "u-1", {"protocol": "API", "has_media": False}),
            (6, "u-2", {"protocol": "WebRTC"}),
        )
    ]
    bulk = {"event": "eventsink_bulk", "node": "127.0.0.1", "seq": 0, "version": 2}
    for _ in range(2):
        assert await counted.send({**bulk, "time": 1906531207.0, "data": inner}) == 200
    left = {**ANN, "uuid": "u-3", "conversation_id": "c-3"}
    await counted.report("participant_disconnected", 8, **left)
    await counted.report("participant_connected", 7, **left, **INSIDE)
    await counted.counts(participants=1)
    await counted.report("conference_ended", 9, name="812345678", tag="t=acme&m=crm-7")
    await counted.report("participant_updated", 10, **{**ANN, "uuid": "u-2"}, **INSIDE)
    await counted.counts(participants=1)
    moved = {**ANN, "uuid": "u-2", "conference": "other", "protocol": "WebRTC"}
    await counted.report("participant_connected", 11, **moved, **INSIDE)
    await counted.counts(participants=0)


async def test_limits_hold_for_meetings(counted: Site) -> None:
    await counted.api("PUT", "meetings/crm-7", CRM_7)
    found = (await counted.api("GET", "limits")).json["participants"]
    assert found == {"soft": None, "hard": 2, "now": 0, "peak": 0, "refused": 0}
    for number in (1, 2):
        person = {**ANN, **INSIDE, "uuid": f"u-{number}", "conversation_id": f"c-{number}"}
        await counted.report("participant_connected", number, **person)
    await counted.counts("limits", now=2)
    reply = await counted.call("812345678")
    assert (reply["action"], reply["reason"]) == ("reject", "limit of acme: 2 of 2")
    await counted.counts("meetings/crm-7/live", participants=2)
    assert (await counted.api("GET", "limits")).json["participants"]["refused"] == 1


async def test_invitation_is_spent_once_the_person_was_in(counted: Site) -> None:
    await counted.api("PUT", "meetings/crm-7", CRM_7)
    body = {"name": "Ann", "role": "guest", "uses": 1}
    made = (await counted.api("POST", "meetings/crm-7/invitations", body)).json
    alias, place = f"sip:{made['alias']}", f"meetings/crm-7/invitations/{made['id']}"
    for _ in range(2):  # a web join asks twice
        result = (await counted.call(alias))["result"]
        assert (result["name"], result["guest_pin"]) == ("812345678", "081500")
        assert result["pin"] != "471100"
    assert (await counted.properties(alias))["preauthenticated_role"] == "guest"
    ann = {**ANN, "destination_alias": made["alias"]}
    await counted.report("participant_connected", 1, **ann, service_type="connecting")
    # It has what has changed only.
    await counted.report("participant_updated", 2, uuid="u-1", call_direction="in", **INSIDE)
    await counted.report("participant_disconnected", 3, **ann, service_type="conference")

    async def used() -> int:
        found = (await counted.api("GET", "meetings/crm-7")).json["invitations"]
        return int(found[0]["used"] == 1 and found[0]["spent_at"] == "2030-06-01T08:00:00Z")

    await until(used)
    counted.at("2030-06-01T08:01:59Z")
    assert (await counted.call(alias))["action"] == "continue"
    counted.at("2030-06-01T08:02:04Z")
    assert await counted.call(alias) == rejected("invitation used")
    await counted.api("PATCH", place, {"uses": 2})
    assert (await counted.call(alias))["action"] == "continue"


# ---- what is not in them


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"{", "application/json", 400),
        (b'{"title": NaN}', "application/json", 400),
        (b'{"title": 1e999}', "application/json", 400),
        (b'{"title": "a", "title": "b"}', "application/json", 400),
        (b'{"title": "\\ud800"}', "application/json", 400),
        (b"[" * 30_000, "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[]", "application/json", 422),
        (b"{}", "application/x-www-form-urlencoded", 415),
        (b'"' + b"x" * (1 << 16) + b'"', "application/json", 413),
    ],
)
async def test_bodies_that_are_none_are_refused(
    site: Site, body: bytes, kind: str, expected: int
) -> None:
    await site.api("PUT", "meetings/x", CRM_7)
    for method, path in (("PUT", "meetings/x"), ("POST", "meetings"), ("PATCH", "meetings/x")):
        assert (await site.api(method, path, body, Content_Type=kind)).status == expected


@pytest.mark.parametrize("depth", [10, 300, 900])
async def test_nested_values_are_refused_as_others_are(site: Site, depth: int) -> None:
    nested = '{"a":' * depth + "1" + "}" * depth
    body = json.dumps({**CRM_7, "service": {}}).replace('"service": {}', f'"service": {nested}')
    assert (await site.api("PUT", "meetings/x", body.encode())).status == 422
    given = body.replace(f'"service": {nested}', f'"title": {nested}')
    assert (await site.api("PUT", "meetings/x", given.encode())).status in (400, 422)


async def test_conditions_hold_for_a_creation(site: Site) -> None:
    assert (await site.api("PUT", "meetings/crm-7", CRM_7, If_Match="*")).status == 412
    assert (await site.api("PUT", "meetings/crm-7", CRM_7, If_None_Match="*")).status == 201
    assert (await site.api("PUT", "meetings/crm-7", CRM_7, If_None_Match="*")).status == 412


async def test_tags_are_compared_as_http_has_it(site: Site) -> None:
    tag = (await site.api("PUT", "meetings/crm-7", CRM_7)).headers["ETag"]
    for name, sent, expected in (
        ("If-Match", [f"W/{tag}"], 412),
        ("If-Match", [f'"other", W/{tag}'], 412),
        ("If-None-Match", [f"W/{tag}"], 412),
        ("If-None-Match", ['"other"', tag], 412),
        ("If-Match", ['"other"', tag], 200),
    ):
        headers = [("Authorization", "Bearer TOKEN_OF_ACME"), *((name, one) for one in sent)]
        url = f"{next(site.servers).api_url}/api/v1/meetings/crm-7"
        async with site.http.patch(url, json={"title": name}, headers=headers) as reply:
            assert reply.status == expected, (name, sent)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /api/v1/meetings/a b HTTP/1.1", 400),
        (b"GET /api/v1/meetings/\xc3\xbc HTTP/1.1", 400),
        (b"FOO /api/v1/meetings HTTP/1.1", 400),
        (b"GET /api/v1/meetings HTTP/1.1\r\nX: " + b"x" * 65536, 431),
        (b"PUT /api/v1/meetings/a HTTP/1.1\r\nTransfer-Encoding: chunked", 400),
        (b"PUT /api/v1/meetings/a HTTP/1.1\r\nContent-Length: 65537", 413),
    ],
)
async def test_requests_that_are_not_read_get_a_problem(
    site: Site, line: bytes, status: int
) -> None:
    url = URL(next(site.servers).api_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(line + b"\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(HANG_S):
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].split()[0])
        problem = json.loads(await reader.readexactly(size))
    writer.close()
    assert b"Content-Type: application/problem+json" in head
    assert (int(head.split()[1]), problem["status"]) == (status, status)


async def test_end_closes_and_new_pins_replace_both(site: Site) -> None:
    await site.api("PUT", "meetings/crm-7", CRM_7)
    pins = (await site.api("POST", "meetings/crm-7/new-pins")).json
    assert {pins["host_pin"], pins["guest_pin"]}.isdisjoint({"471100", "081500"})
    assert (await site.api("POST", "meetings/crm-7/end")).json["state"] == "ended"
    assert await site.call("812345678") == rejected("ended")
    assert not any(pin in str(site.lines) for pin in (pins["host_pin"], "471100"))


async def test_lists_have_parts_times_states_and_series(site: Site) -> None:
    for day in (1, 2, 3):
        body = {"start": f"2030-06-0{day}T08:00:00Z", "end": f"2030-06-0{day}T09:00:00Z"}
        await site.api("PUT", f"meetings/day-{day}", {**body, "series": "board"})
    found: list[str] = []
    cursor: str | None = ""
    for _ in range(2):
        part = (await site.api("GET", f"meetings?limit=2&cursor={cursor}")).json
        found += [one["id"] for one in part["items"]]
        cursor = part["next"]
    assert (found, cursor) == (["day-1", "day-2", "day-3"], None)
    for query, expected in (
        ("from=2030-06-02T00:00:00+00:00&to=2030-06-03T00:00:00Z", ["day-2"]),
        ("state=open", ["day-1"]),
        ("state=scheduled", ["day-2", "day-3"]),
        ("series=other", []),
    ):
        part = (await site.api("GET", f"meetings?{query}")).json
        assert [one["id"] for one in part["items"]] == expected, query
    for query, named in (
        ("limit=0&state=x&cursor=none&from=today", ("cursor", "from", "limit", "state")),
        ("limit=&to=", ("limit", "to")),
        ("limit=1&limit=2", ("limit",)),
        ("cursor=nan_day-1", ("cursor",)),
        ("cursor=1_..", ("cursor",)),
    ):
        refused = await site.api("GET", f"meetings?{query}")
        assert refused.status == 422, query
        assert sorted(refused.pointers) == [f"/query/{name}" for name in named]
    for method, key, known in (
        ("GET", "stat", "from, to, state, series, limit, cursor"),
        ("DELETE", "state", "series"),
    ):
        refused = await site.api(method, f"meetings?series=board&{key}=open")
        assert (refused.status, refused.pointers) == (422, ["/query"])
        assert known in refused.json["errors"][0]["message"]
    assert (await site.api("DELETE", "meetings?series=board")).json == {"cancelled": 3}
    assert (await site.api("GET", "meetings?state=cancelled")).json["items"][0]["id"] == "day-1"
    assert [one["action"] for one in site.changes[-3:]] == ["meeting_cancelled"] * 3


async def test_calendar_has_the_pin_of_guests_only(site: Site) -> None:
    await site.api("PUT", "meetings/crm-7", {**CRM_7, "title": "Review; " + "ü" * 60})
    found = await site.api("GET", "meetings/crm-7", Accept="text/calendar")
    text = found.body.decode()
    assert found.headers["Content-Type"].startswith("text/calendar")
    assert "DTSTART:20300601T080000Z\r\nDTEND:20300601T090000Z\r\n" in text
    assert "UID:crm-7@acme.example.com\r\n" in text
    assert ("081500" in text, "471100" in text) == (True, False)
    assert all(len(line) <= 75 for line in found.body.split(b"\r\n"))
    assert "Review\\; " + "ü" * 60 in text.replace("\r\n ", "")


@pytest.mark.parametrize(
    ("accept", "is_calendar"),
    [
        ("text/calendar;q=0, application/json", False),
        ("text/calendar; q=0.1, application/json", False),
        ("application/json;q=0.5, text/calendar", True),
        ("*/*", False),
    ],
)
async def test_the_type_of_a_meeting_is_what_the_client_prefers(
    site: Site, accept: str, is_calendar: bool
) -> None:
    await site.api("PUT", "meetings/crm-7", CRM_7)
    found = await site.api("GET", "meetings/crm-7", Accept=accept)
    assert found.headers["Content-Type"].startswith("text/calendar") == is_calendar


async def test_compressed_body_is_not_read(site: Site) -> None:
    sent = await site.api("PUT", "meetings/x", CRM_7, Content_Encoding="gzip")
    assert sent.status == 415


async def test_without_those_plugins_there_are_no_counts(site: Site) -> None:
    await site.api("PUT", "meetings/crm-7", CRM_7)
    for path in ("meetings/crm-7/live", "live", "limits"):
        assert (await site.api("GET", path)).status == 404


async def test_description_needs_no_token_and_names_each_operation(site: Site) -> None:
    found = await site.api("GET", "openapi.json", token="")
    assert found.status == 200
    document = found.json
    assert document["openapi"] == "3.1.0"
    names = {one["operationId"] for path in document["paths"].values() for one in path.values()}
    assert {"put_meeting", "invite"} <= names
    assert names.isdisjoint({"live_meeting", "live", "limits"})
    text = found.body.decode()
    for reference in {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}:
        assert reference in document["components"]["schemas"]


async def test_operators_see_pins_on_request_which_is_recorded(site: Site) -> None:
    made = await site.operator("POST", "tenants/acme/meetings", {**CRM_7})
    assert made.status == 201
    place = f"tenants/acme/meetings/{made.json['id']}"
    assert "host_pin" not in (await site.operator("GET", place)).json
    assert "host_pin" in (await site.operator("PATCH", f"{place}?pins=true", {})).json
    assert (await site.operator("GET", f"{place}?pins=true")).json["host_pin"] == "471100"
    actions = [(one["action"], one["token"]) for one in site.changes]
    assert actions == [("meeting_created", "[admin]"), *[("pins_shown", "[admin]")] * 2]
    items = (await site.operator("GET", "meetings")).json["items"]
    assert [(one["tenant"], one["title"], one["people"]) for one in items] == [
        ("acme", "Review", 0)
    ]
    assert (await site.operator("GET", "tenants/none/meetings")).status == 404
