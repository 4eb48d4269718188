"""The plugin: one hook for each endpoint, all of them asking the rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pexpolicy import (
    ConfigWarning,
    Decision,
    DirectoryInformationRequest,
    Key,
    MediaLocationRequest,
    ParticipantAvatarRequest,
    ParticipantPropertiesRequest,
    RegistrationAliasRequest,
    Request,
    ServiceConfigurationRequest,
    SettingsError,
    hookimpl,
)
from pexpolicy_rules import settings as written
from pexpolicy_rules.analysis import findings
from pexpolicy_rules.builder import Draft
from pexpolicy_rules.rule_set import RuleChain

REQUESTS: Mapping[str, type[Request]] = {
    "service_configuration": ServiceConfigurationRequest,
    "participant_properties": ParticipantPropertiesRequest,
    "media_location": MediaLocationRequest,
    "participant_avatar": ParticipantAvatarRequest,
    "directory_information": DirectoryInformationRequest,
    "registration_alias": RegistrationAliasRequest,
}


class Rules:
    """Decides by the first rule that a request matches; without one it abstains."""

    Settings = written.Settings

    def __init__(self, settings: written.Settings, clock: Callable[[], float] = time.time) -> None:
        draft = Draft(settings, clock)
        if draft.problems:
            raise SettingsError(problems=draft.problems)
        self._rules = tuple(draft.rules)
        self._advice = tuple(draft.advice)
        self._files = tuple(draft.files)
        self._chains = {name: RuleChain(name, self._rules) for name in REQUESTS}
        self._clock = clock

    @property
    def can_reject(self) -> bool:
        """True when a rule refuses, so that nobody may pass while the rules cannot be asked."""
        return any(answer.refuses for rule in self._rules for answer in rule.answers.values())

    def _decide(self, endpoint: str, request: Request) -> Any:
        chain = self._chains[endpoint]
        if request.notes is not None:
            request.notes.extend(chain.explain(request))
        return chain.decide(request, self._clock())

    @hookimpl
    async def service_configuration(self, request: ServiceConfigurationRequest) -> Any:
        """The service of the first rule that matches."""
        return self._decide("service_configuration", request)

    @hookimpl
    async def participant_properties(self, request: ParticipantPropertiesRequest) -> Any:
        """The properties of the first rule that matches."""
        return self._decide("participant_properties", request)

    @hookimpl
    async def media_location(self, request: MediaLocationRequest) -> Any:
        """The location of the first rule that matches."""
        return self._decide("media_location", request)

    @hookimpl
    async def participant_avatar(self, request: ParticipantAvatarRequest) -> Any:
        """The picture of the first rule that matches."""
        return self._decide("participant_avatar", request)

    @hookimpl
    async def directory_information(self, request: DirectoryInformationRequest) -> Any:
        """The entries of the first rule that matches."""
        return self._decide("directory_information", request)

    @hookimpl
    async def registration_alias(self, request: RegistrationAliasRequest) -> Any:
        """The credentials of the first rule that matches."""
        return self._decide("registration_alias", request)

    @hookimpl
    def static_decisions(self) -> Iterable[tuple[Key, Decision]]:
        """The decisions that hold no placeholder, with the keys of their rules."""
        for rule in self._rules:
            for answer in rule.answers.values():
                if answer.fixed is not None:
                    place = (rule.place,) if rule.place else ()
                    yield (*rule.key, *place, "then", "result"), answer.fixed

    @hookimpl
    def config_warnings(self) -> Iterable[ConfigWarning]:
        """Rules that never decide, that hide one another, or that Infinity may not like."""
        yield from self._advice
        for endpoint, chain in self._chains.items():
            for rule, text in findings(endpoint, chain.rules, REQUESTS[endpoint], self._clock()):
                yield ConfigWarning(rule.key, text)

    @hookimpl
    def tracked_files(self) -> Iterable[Path]:
        """The files of rules, and the pictures."""
        return self._files

    @hookimpl
    def status(self) -> Mapping[str, object]:
        """How often each rule has decided since the start, and when it did last, in UTC."""
        return {
            rule.name: {"hits": rule.hits.count, "last_hit": _moment(rule.hits.last)}
            for rule in self._rules
        }


def _moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
