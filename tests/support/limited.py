"""Two servers with the plugin ``limits``, and what is asked of them."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pexpolicy.endpoints.service_configuration import ServiceConfigurationRequest
from pexpolicy.models.event import typed_event
from pexpolicy.models.request import Request, annotations_of
from pexpolicy.policy import Policy
from pexpolicy.testing import Outcome, Simulator, make_request
from pexpolicy_limits import Limits

TENANTS = {"acme": {"aliases": ["*@acme.example.com"]}, "bolt": {"aliases": ["*@bolt.example.com"]}}


@dataclass
class Servers:
    """Two servers; each call and each batch of events goes to the other one in turn."""

    policies: Sequence[Policy]
    execute: Callable[[str], object]
    turn: int = 0
    platform: Simulator = field(default_factory=lambda: Simulator(random.Random(7)))
    sent: int = 0

    def next(self) -> Policy:
        self.turn += 1
        return self.policies[self.turn % len(self.policies)]

    def limits(self, policy: Policy) -> Limits:
        (found,) = (p.instance for p in policy.plugins if isinstance(p.instance, Limits))
        return found

    async def outcome(self, request: Request) -> Outcome:
        return (await self.next().answer(request, "an id")).outcome

    async def call(self, caller: str = "ann@example.com", alias: str = "", **fields: Any) -> str:
        """Return the action that a call gets, and the reason if there is one."""
        decision = (await self.outcome(request_of(caller, alias, **fields))).decision
        return f"{decision.action}: {decision.reason}" if decision.reason else decision.action

    async def report(self, times: int = 1, without: str = "") -> None:
        """Send what the platform has reported since the last time, each event several times."""
        found = self.platform.events[self.sent :]
        self.sent += len(found)
        events = [event for event in found if event["event"] != without]
        for _ in range(times):
            await self.send(*events)

    async def send(self, *bodies: dict[str, Any]) -> None:
        """Give events to the plugin of one server."""
        events = [typed_event(body, "default", body["time"]) for body in bodies]
        await self.limits(self.next()).on_events(events)

    async def reconcile(self) -> None:
        await self.limits(self.next())._places.reconcile()

    async def places(self) -> dict[str, int]:
        return await self.limits(self.next())._places.leases.counts()

    def pass_time(self, seconds: float) -> None:
        """Let time pass for the entries of the engine, whose clock cannot be set.

        Not for its jobs: one that is due would take back what has passed.
        """
        update = f"UPDATE pexpolicy_shared SET expires = expires - {seconds}"  # noqa: S608 - constants
        self.execute(f"{update} WHERE name LIKE 'limits/%'")


def request_of(caller: str, alias: str = "", **fields: Any) -> ServiceConfigurationRequest:
    given = {
        "local_alias": f"sip:{alias or 'board@acme.example.com'}",
        "remote_alias": caller,
        "remote_display_name": caller,
        "remote_address": "10.44.250.22",
        **fields,
    }
    made = make_request("service_configuration", shape="sip", **given)
    assert isinstance(made, ServiceConfigurationRequest)
    return made


def annotations(outcome: Outcome) -> dict[str, object]:
    """Return what the plugin added to the audit line."""
    made = annotations_of(outcome.request)
    found = made.by_plugin.get("limits", {}) if made is not None else {}
    return {name: one.value for name, one in found.items()}
