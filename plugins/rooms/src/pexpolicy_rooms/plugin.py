"""The plugin: settings, and the hook that looks an alias up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import Field

from pexpolicy import (
    SERVICE_TYPES,
    Advice,
    Alias,
    Conference,
    DecisionError,
    PluginSettings,
    Problem,
    Service,
    ServiceConfigurationRequest,
    SettingsError,
    hookimpl,
)
from pexpolicy_rooms.table import RoomTable

DEFAULT_TAG = "default-room"
MAX_NAME = 250
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class Rooms:
    """Leads aliases to services that were checked and rendered when the policy was built."""

    class Settings(PluginSettings):
        """``[plugins.rooms.settings]``."""

        default_room: str | None = None
        """Name of a room for every other alias; ``{local_alias}`` stands for it. Without it: abstain."""

        rooms: dict[str, Any] = Field(default_factory=dict)
        """A table for each alias, with any field of any service type; ``conference`` unless it says else."""

    def __init__(self, settings: Settings) -> None:
        self._table = RoomTable()
        self._default = settings.default_room
        self._advice: list[Advice] = []
        problems = [
            problem for alias, fields in settings.rooms.items() for problem in self._add(alias, fields)
        ]
        problems += _template_problems(settings.default_room)
        if problems:
            raise SettingsError(problems=problems)

    def _add(self, written: str, fields: Any) -> Iterable[Problem]:
        key = ("rooms", written)
        alias = Alias(written)
        if not alias.user:
            yield Problem(key, "is no alias")
        elif not isinstance(fields, dict):
            yield Problem(key, "expected a table of fields, such as name and service_tag")
        else:
            try:
                service = _service(fields)
            except DecisionError as error:
                yield Problem((*key, *_field(error)), _said(error))
                return
            if not self._table.add(alias, service):
                yield Problem(key, f"there is a room with the alias {alias} already")
            self._advice += [Advice(key, warning) for warning in service.warnings]

    @hookimpl
    async def service_configuration(self, request: ServiceConfigurationRequest) -> Service | None:
        """The room of the dialed alias; probes and breakout rooms are none of ours."""
        alias = request.local_alias
        direction = request.call_direction
        if not alias or direction == "non_dial" or request.breakout_uuid is not None:
            return None
        room = self._table.find(alias)
        if room is not None or self._default is None or direction == "dial_out":
            return room
        return self._default_room(alias, self._default)

    def _default_room(self, alias: Alias, template: str) -> Service | None:
        if self._table.is_ambiguous(alias):
            return None
        name = template.replace("{local_alias}", alias)
        if len(name) > MAX_NAME:
            return None
        return Conference(name=name, service_tag=DEFAULT_TAG, reason="no room has this alias")

    @hookimpl
    def check(self) -> Iterable[Advice]:
        """Rooms that cannot be told apart, open doors, and fields that Infinity may not like."""
        if self._default is not None:
            yield Advice(
                ("default_room",),
                "every alias that has no room leads to a room of its own without a PIN: anybody who can "
                "dial in can use it, and rooms of Infinity's own database are hidden",
            )
        for user, hosts in self._table.ambiguities():
            shared = ", ".join(f"{user}@{host}" for host in hosts)
            yield Advice(("rooms",), f"a call to the bare name {user} meets none of {shared}: add {user}")
        yield from self._advice


def _service(fields: dict[str, Any]) -> Service:
    """The service that a table describes; a key that is no field is an error here."""
    given = {**fields, "service_tag": fields.get("service_tag", "")}
    kind = given.pop("service_type", "conference")
    if not isinstance(kind, str) or kind not in SERVICE_TYPES:
        msg = f"service_type: {kind!r} is none of {', '.join(SERVICE_TYPES)}"
        raise SettingsError(msg)
    return SERVICE_TYPES[kind](**given)


def _field(error: DecisionError) -> tuple[str, ...]:
    return (error.refusal.field,) if error.refusal.field else ()


def _said(error: DecisionError) -> str:
    refusal = error.refusal
    return f"{refusal.rule} ({refusal.doc})" if refusal.doc else refusal.rule


def _template_problems(template: str | None) -> Iterable[Problem]:
    for name in _PLACEHOLDER.findall(template or ""):
        if name != "local_alias":
            yield Problem(("default_room",), f"there is no {{{name}}}; only {{local_alias}} is filled in")
