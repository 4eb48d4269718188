"""Plugin class of ``rooms``, and its settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from pexpolicy import (
    SERVICE_TYPES,
    Alias,
    Conference,
    ConfigWarning,
    DecisionError,
    Key,
    PluginSettings,
    Problem,
    Service,
    ServiceConfigurationRequest,
    SettingsError,
    hookimpl,
    service_class,
)
from pexpolicy_rooms.table import RoomTable

DEFAULT_TAG = "default-room"
MAX_NAME = 250
_PLACEHOLDER = "{local_alias}"


class Rooms:
    """Leads aliases to services that were checked and rendered when the policy was built."""

    class Settings(PluginSettings):
        """``[plugins.rooms.settings]``."""

        default_room: str | None = None
        """Name of a room for any other alias, inserted for ``{local_alias}``; unset: abstain."""

        rooms: dict[str, Any] = Field(default_factory=dict)
        """A table for each alias: any field of any service type, by default of a ``conference``."""

    def __init__(self, settings: Settings) -> None:
        self._table = RoomTable()
        self._default = settings.default_room
        self._extras = settings.extras
        self._warnings: list[ConfigWarning] = []
        self._named: dict[str, str] = {}
        self._spelled: dict[str, str] = {}
        problems = [
            problem
            for alias, fields in settings.rooms.items()
            for problem in self._add(alias, fields)
        ]
        problems += _template_problems(settings.default_room)
        self._named.clear()
        if problems:
            raise SettingsError(problems=problems)

    def _add(self, written: str, fields: Any) -> Iterable[Problem]:
        key = ("rooms", written)
        alias = Alias(written)
        if not alias.user:
            yield Problem(key, 'is not an alias; write one such as "meet@example.com"')
        elif not isinstance(fields, dict):
            yield Problem(key, "expected a table of fields, such as name and service_tag")
        elif (model := service_class(kind := _kind(fields), self._extras)) is None:
            text = f"{kind!r} is not one of {', '.join(_KINDS)}"
            yield Problem((*key, "service_type"), text)
        else:
            yield from self._add_service(key, alias, model, fields)

    def _add_service(
        self, key: Key, alias: Alias, kind: type[Service], fields: dict[str, Any]
    ) -> Iterable[Problem]:
        given = {**fields, "service_tag": fields.get("service_tag", "")}
        if kind.constants.get("service_type") is not None:
            given.pop("service_type", None)
        if "reason" in given:
            # It is an argument of each decision, and nothing that Infinity is sent.
            del given["reason"]
            yield Problem((*key, "reason"), "is not a field of a service")
        try:
            service = kind.from_result(given, extras=self._extras, strict=True)
        except DecisionError as error:
            for refusal in kind.find_issues(given, self._extras) or [error.refusal]:
                yield Problem((*key, *refusal.key), refusal.text)
            return
        if not self._table.add(alias, service):
            yield Problem(key, f"there is a room with the alias {alias} already")
        elif alias != key[-1]:
            self._spelled[str(alias)] = str(key[-1])
        self._warnings += [ConfigWarning(key, warning) for warning in service.warnings]
        if not given.get("breakout"):
            self._warnings += self._of_name(key, given["name"], service)

    def _of_name(self, key: Key, name: str, service: Service) -> Iterable[ConfigWarning]:
        """Warn of two rooms with one name and other settings; aliases of one room are fine."""
        written = str(key[-1])
        other = self._named.setdefault(name, written)
        if other is written or (first := self._table.find(Alias(other))) is None:
            return
        if first != service and first.set_fields() != service.set_fields():
            text = (
                f"{other} has the same name and other settings, and Infinity knows a service by "
                "its name: give each a name of its own, or both the same settings"
            )
            yield ConfigWarning((*key, "name"), text)

    @hookimpl
    async def service_configuration(self, request: ServiceConfigurationRequest) -> Service | None:
        """Return the room of the dialed alias; abstain for probes and breakout rooms."""
        alias = request.local_alias
        direction = request.call_direction
        if not alias.user or direction == "non_dial" or request.breakout_uuid is not None:
            return None
        room = self._table.find(alias)
        if room is not None or self._default is None or direction == "dial_out":
            return room
        return self._default_room(alias, self._default)

    def _default_room(self, alias: Alias, template: str) -> Service | None:
        if self._table.is_ambiguous(alias):
            return None
        name = template.replace(_PLACEHOLDER, alias)
        if len(name) > MAX_NAME:
            return None
        return Conference(name=name, service_tag=DEFAULT_TAG, reason="no room has this alias")

    @hookimpl
    def static_decisions(self) -> Iterable[tuple[tuple[str, str], Service]]:
        """Return each room with its key; the decisions were made when the policy was built."""
        # Kept no longer: the spellings are text of the configuration, and pin its memory.
        spelled, self._spelled = self._spelled, {}
        for alias, service in self._table.rooms():
            yield ("rooms", spelled.get(alias, alias)), service

    @hookimpl
    def config_warnings(self) -> Iterable[ConfigWarning]:
        """Warn of ambiguous rooms, rooms without a PIN, and fields that Infinity may reject."""
        if self._default is not None:
            room = "a room of its own" if _PLACEHOLDER in self._default else "one room"
            yield ConfigWarning(
                ("default_room",),
                f"every alias that has no room leads to {room} without a PIN: anybody who can "
                "dial in can use it, and rooms of Infinity's own database are hidden",
            )
        for user, hosts in self._table.ambiguities():
            shared = ", ".join(f"{user}@{host}" for host in hosts)
            yield ConfigWarning(
                ("rooms",), f"a call to the bare name {user} meets none of {shared}: add {user}"
            )
        yield from self._warnings


# A list: what stands in a TOML file may be no key of a dictionary.
_KINDS = list(SERVICE_TYPES)


def _kind(fields: dict[str, Any]) -> Any:
    return fields.get("service_type", "conference")


def _template_problems(template: str | None) -> Iterable[Problem]:
    key = ("default_room",)
    if template is None:
        return
    rest = template.replace(_PLACEHOLDER, "")
    if "{" in rest or "}" in rest:
        yield Problem(key, f"only {_PLACEHOLDER} is filled in; write the name without other braces")
    elif not template.strip():
        yield Problem(
            key, "is empty; leave it out if aliases without a room are not yours to answer"
        )
    elif len(template.replace(_PLACEHOLDER, "a")) > MAX_NAME:
        yield Problem(
            key, f"is too long: with the alias in it, a name has at most {MAX_NAME} characters"
        )
