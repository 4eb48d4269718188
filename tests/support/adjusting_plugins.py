"""Plugins whose settings name what they decide and how they adjust; importable by a worker."""

import asyncio
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

from pexpolicy import (
    UNSET,
    Conference,
    Continue,
    ParticipantProperties,
    ParticipantPropertiesRequest,
    PluginSettings,
    Redirect,
    Reject,
    ServiceConfigurationRequest,
    hookimpl,
)
from pexpolicy.plugins.discovery import PluginSource
from tests.support.secret_canaries import PIN

ROOM = Conference(
    name="Board", service_tag="b", pin=PIN, ivr_theme_name="Oslo", description="Third floor"
)
ROLE = ParticipantProperties(preauthenticated_role="chair", spotlight=1)
NAME = ParticipantProperties(remote_display_name="Dana", spotlight=2)
LATE_S = 5.0

DECISIONS: dict[str, Any] = {
    "abstain": None,
    "room": ROOM,
    "role": ROLE,
    "name": NAME,
    "empty": ParticipantProperties(),
    "continue": Continue(reason="not ours"),
    "reject": Reject(reason="closed"),
    "redirect": Redirect(new_alias="sip:desk@example.com"),
    "table": {"call_tag": "vip"},
    "nonsense": 3.5,
    "unlisted": ROOM.replace(ivr_theme_name="Bergan"),
}

ADJUSTMENTS: dict[str, Callable[[Any], Any]] = {
    "none": lambda _: None,
    "same": lambda decision: decision,
    "bergen": lambda decision: decision.replace(ivr_theme_name="Bergen"),
    "unlisted": lambda decision: decision.replace(ivr_theme_name="Bergan"),
    "plain": lambda decision: decision.replace(description=UNSET),
    "lock": lambda decision: decision.replace(locked=True, reason="after hours"),
    "open": lambda decision: decision.replace(pin=UNSET),
    "blank": lambda decision: decision.replace(pin=""),
    "repin": lambda decision: decision.replace(pin=PIN[::-1]),
    "wrong": lambda decision: decision.replace(name=UNSET),
    "rename": lambda decision: decision.replace(remote_display_name="Guest"),
    "table": lambda decision: {**decision.set_fields(), "view": "one_main_zero_pips"},
    "nonsense": lambda _: 3.5,
    "reject": lambda _: Reject(reason="full"),
    "slow": lambda decision: decision.replace(max_callrate_in=128_000),
    "mute": lambda _: ParticipantProperties(rx_presentation_policy="DENY"),
    "admit": lambda _: ROOM,
    "leave": lambda _: Continue(reason="left to Infinity"),
    "redirect": lambda _: Redirect(new_alias="sip:desk@example.com"),
    "other_reason": lambda decision: decision.replace(reason="closed today"),
}


def _forge(decision: Any) -> Any:
    object.__setattr__(decision, "result", b'{"name":"forged"}')
    return decision


def _tamper(decision: Any) -> None:
    _forge(decision)


ADJUSTMENTS["forge"] = lambda decision: _forge(decision.replace(locked=True))
ADJUSTMENTS["tamper"] = _tamper


class _Script:
    class Settings(PluginSettings):
        do: str

    def __init__(self, settings: Settings) -> None:
        self._do = settings.do

    def _now(self, known: Any, *given: Any) -> Any:
        if self._do == "fail":
            raise ValueError("no database")
        if self._do == "fresh":
            return ROOM.replace(locked=False)
        found = known.get(self._do)
        return found(*given) if given and found is not None else found

    async def _act(self, known: Any, *given: Any) -> Any:
        if self._do == "late":
            await asyncio.sleep(LATE_S)
        return self._now(known, *given)


class Decides(_Script):
    """Decides as its settings say."""

    @hookimpl
    async def service_configuration(self, request: ServiceConfigurationRequest) -> Any:
        return await self._act(DECISIONS)

    @hookimpl
    async def participant_properties(self, request: ParticipantPropertiesRequest) -> Any:
        return await self._act(DECISIONS)


class Adjusts(_Script):
    """Adjusts as its settings say."""

    @hookimpl
    async def adjust_service_configuration(
        self, request: ServiceConfigurationRequest, decision: Any
    ) -> Any:
        return await self._act(ADJUSTMENTS, decision)

    @hookimpl
    async def adjust_participant_properties(
        self, decision: Any, request: ParticipantPropertiesRequest
    ) -> Any:
        assert isinstance(request, ParticipantPropertiesRequest)
        return await self._act(ADJUSTMENTS, decision)


class DecidesNow(_Script):
    """Decides without ever waiting, so that its task may be shared."""

    @hookimpl
    async def service_configuration(self, request: ServiceConfigurationRequest) -> Any:
        return self._now(DECISIONS)

    @hookimpl
    async def participant_properties(self, request: ParticipantPropertiesRequest) -> Any:
        return self._now(DECISIONS)


class AdjustsNow(_Script):
    """Adjusts without ever waiting."""

    @hookimpl
    async def adjust_service_configuration(self, decision: Any) -> Any:
        return self._now(ADJUSTMENTS, decision)

    @hookimpl
    async def adjust_participant_properties(
        self, request: ParticipantPropertiesRequest, decision: Any
    ) -> Any:
        return self._now(ADJUSTMENTS, decision)


class Restricts(_Script):
    """Restricts as its settings say."""

    @hookimpl
    async def restrict_service_configuration(self, request: Any, decision: Any) -> Any:
        return await self._act(ADJUSTMENTS, decision)

    @hookimpl
    async def restrict_participant_properties(self, request: Any, decision: Any) -> Any:
        return await self._act(ADJUSTMENTS, decision)


class RestrictsNow(_Script):
    """Restricts without ever waiting."""

    @hookimpl
    async def restrict_service_configuration(self, request: Any, decision: Any) -> Any:
        return self._now(ADJUSTMENTS, decision)

    @hookimpl
    async def restrict_participant_properties(self, request: Any, decision: Any) -> Any:
        return self._now(ADJUSTMENTS, decision)


class Blocks(_Script):
    """Adjusts in a thread, and does not take the request."""

    @hookimpl
    def adjust_service_configuration(self, decision: Any) -> Any:
        if self._do == "late":
            time.sleep(0.3)
        return ADJUSTMENTS["bergen"](decision)


class Both(Decides):
    """Decides and adjusts its own decisions."""

    @hookimpl
    async def adjust_service_configuration(self, decision: Any) -> Any:
        return ADJUSTMENTS["plain"](decision)


def sources(plugins: dict[str, str]) -> dict[str, PluginSource]:
    """Return the sources of plugins, given the kind of each by name."""
    return {name: _source(name, kind) for name, kind in plugins.items()}


def _source(name: str, kind: str) -> PluginSource:
    entry = EntryPoint(name, f"{__name__}:{kind}", "pexpolicy")
    return PluginSource(name, "toys", "1.0", entry.value, entry.load)
