"""Two servers with the plugin ``meetings``, and what is booked and asked of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pexpolicy.models.event import Event, typed_event
from pexpolicy.policy import Policy
from pexpolicy.testing import Outcome, make_request
from pexpolicy_meetings import Meetings
from pexpolicy_meetings.meeting import Fault, Meeting, parsed, read_time
from pexpolicy_meetings.store import IdempotencyKey, Stored

TENANTS: dict[str, Any] = {
    "acme": {"tag": "t=acme", "aliases": ["8*@acme.example.com"]},
    "bolt": {"tag": "t=bolt", "aliases": ["8*@bolt.example.com", "meet-*@bolt.example.com"]},
}
REVIEW = {
    "title": "Review",
    "start": "2030-06-01T10:00:00+02:00",
    "end": "2030-06-01T11:00:00+02:00",
    "aliases": ["812345678@acme.example.com"],
    "host_pin": "471100",
    "guest_pin": "081500",
}


def at(time: str) -> float:
    """Return a time of the first of June 2030 in UTC, or another one, in seconds since 1970."""
    found = read_time("", time if "T" in time else f"2030-06-01T{time}Z", [])
    assert found is not None
    return found


@dataclass
class Servers:
    """Two servers; each call, change and event goes to the other one in turn."""

    policies: list[Policy] = field(default_factory=list)
    now: float = at("08:00:00")
    turn: int = 0

    def next(self) -> Policy:
        self.turn += 1
        return self.policies[self.turn % len(self.policies)]

    def plugin(self) -> Meetings:
        policy = self.next()
        (found,) = (p.instance for p in policy.plugins if isinstance(p.instance, Meetings))
        return found

    async def outcome(self, alias: str, endpoint: str = "", **fields: Any) -> Outcome:
        given = {"local_alias": alias, "call_direction": "dial_in", **fields}
        made = make_request(endpoint or "service_configuration", shape="sip", **given)
        return (await self.next().answer(made, "an id")).outcome

    async def call(self, alias: str, time: str = "", **fields: Any) -> str | dict[str, Any]:
        """Return the result that a call gets, or why it is rejected; empty if nobody decides."""
        self.now = at(time) if time else self.now
        found = await self.outcome(alias, **fields)
        if found.decided_by != "meetings":
            return ""
        decision = found.decision
        return decision.set_fields() if decision.action == "continue" else str(decision.reason)

    async def put(
        self,
        tenant: str = "acme",
        meeting_id: str = "crm-7",
        key: IdempotencyKey | None = None,
        **fields: Any,
    ) -> Stored | list[Fault]:
        plugin = self.plugin()
        body, owner = {**REVIEW, **fields}, plugin.tenants[tenant]

        def edit(before: Meeting | None) -> Meeting | list[Fault]:
            return parsed(body, owner, self.now, meeting_id=meeting_id, base=before)

        return await plugin.store.change(owner, meeting_id, edit, key)

    async def edit_or_faults(
        self, change: Callable[[Meeting], Meeting | list[Fault]], meeting_id: str = "crm-7"
    ) -> Stored | list[Fault]:
        plugin = self.plugin()

        def edit(before: Meeting | None) -> Meeting | list[Fault]:
            assert before is not None
            return change(before)

        return await plugin.store.change(plugin.tenants["acme"], meeting_id, edit)

    async def edit(
        self, change: Callable[[Meeting], Meeting | list[Fault]], meeting_id: str = "crm-7"
    ) -> Meeting:
        stored = await self.edit_or_faults(change, meeting_id)
        assert isinstance(stored, Stored)
        return stored.meeting

    async def report(self, event: str, **data: Any) -> None:
        """Give an event to one server."""
        await self.plugin().on_events([self.event(event, **data)])

    def event(self, event: str, **data: Any) -> Event:
        node = {"node": "10.44.0.1", "seq": 1, "version": 2, "time": self.now}
        body = {**node, "event": f"participant_{event}", "data": data}
        return typed_event(body, "default", self.now)
