"""Decisions of a rule: checked at start-up, and built once if they have no placeholders."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pexpolicy import (
    Avatar,
    Continue,
    Credentials,
    Decision,
    DecisionError,
    Directory,
    Gateway,
    Key,
    MediaLocation,
    ParticipantProperties,
    Redirect,
    Reject,
    Request,
)
from pexpolicy.config.files import why_unusable
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import PROTECTIONS
from pexpolicy.endpoints.object_names import NAMED_OBJECTS
from pexpolicy.endpoints.service_configuration import service_class
from pexpolicy.files import read_file, track_file
from pexpolicy.models.contract import NO_EXTRAS, Extras, contract_of
from pexpolicy_rules.placeholders import (
    Captures,
    ConversionError,
    Text,
    compile_texts,
    has_placeholders,
    placeholder_issues,
    render,
    unfilled_placeholders,
    with_sample,
)
from pexpolicy_rules.settings import Then

_HASH = re.compile(r"\|\s*hash\b").search
SAMPLES = (
    "1234",
    "a@example.com",
    "sip:a@example.com",
    "00000000-0000-4000-8000-000000000000",
    "guest",
    "1",
)
"""Sample values for placeholders; one of them must make the decision valid."""


class AnswerError(ValueError):
    """A decision that is invalid at an endpoint, with all ``issues`` and their keys in ``then``."""

    def __init__(self, text: str, *key: str | int) -> None:
        super().__init__(text)
        self.issues: list[tuple[Key, str]] = [(key, text)]

    @classmethod
    def of(cls, issues: list[tuple[Key, str]]) -> AnswerError:
        """Return one error for several issues."""
        error = cls("; ".join(text for _, text in issues))
        error.issues = issues
        return error


Factory = Callable[[Mapping[str, Any], str], Decision]
_ACTIONS: Mapping[str, type[Decision]] = {"redirect": Redirect, "reject": Reject}
_RESULTS: Mapping[str, type[Decision]] = {
    "participant_properties": ParticipantProperties,
    "media_location": MediaLocation,
    "registration_alias": Credentials,
    "directory_information": Directory,
}
REQUESTS: Mapping[str, type[Request]] = {
    name: endpoint.request for name, endpoint in ENDPOINTS.items()
}
CAN_REJECT = ("service_configuration", "participant_properties", "registration_alias")

NOT_UNIQUE = (
    "name: a placeholder in it is empty, and the name of a gateway must be unique per call "
    "[transcribed]"
)


class Answer:
    """The decision of one rule at one endpoint.

    ``fixed`` is the decision if it has no placeholder, and ``None`` for a rule that abstains.
    Raises ``AnswerError``.
    """

    fixed: Decision | None
    constant: Decision | None = None
    """The fields of a decision that have no placeholder, and those that it needs as written."""

    def __init__(
        self,
        endpoint: str,
        then: Then,
        reason: str,
        groups: Collection[str],
        extras: Extras = NO_EXTRAS,
        secret: str = "",
    ) -> None:
        self._endpoint, self._extras = endpoint, extras
        self._factory, fields = _factory(endpoint, then, extras)
        self.doubts = list(unfilled_placeholders(fields, groups, REQUESTS[endpoint]))
        """Warnings of placeholders that are never filled."""
        self.reason = reason
        self.is_dynamic = has_placeholders(fields)
        """True if the decision is built for each request."""
        self.guessable: list[str] = []
        """Protections that are hashes without a secret: a caller can calculate them."""
        self.action: str = then.action or ("result" if then.image is None else "image")
        """The action, or ``result`` or ``image`` for the key that holds the answer."""
        self.rejects = then.action == "reject"
        self.fixed = None
        if then.action == "abstain":
            return
        if not self.is_dynamic:
            with suppress(DecisionError):
                self.fixed = self._factory(fields, reason)
                return
        place = () if then.result is None else ("result",)
        issues = [((*place, *key), text) for key, text in placeholder_issues(fields, groups)]
        issues += self._issues(fields, place)
        if issues:
            raise AnswerError.of(issues)
        with suppress(DecisionError, AnswerError):
            self.constant = self._factory(self._constant(fields), reason)
        self._fields = compile_texts(fields, groups, secret)
        self._protections = [n for n in PROTECTIONS if isinstance(self._fields.get(n), Text)]
        if not secret:
            self.guessable = [n for n in self._protections if _HASH(str(fields[n]))]

    def _constant(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        model, _ = _parts(self._endpoint, self.action, fields, self._extras)
        needed = {name for name, usual in contract_of(model).defaults.items() if usual is ...}
        kept = needed - NAMED_OBJECTS.keys()
        return {n: one for n, one in fields.items() if n in kept or not has_placeholders(one)}

    def _issues(self, fields: Mapping[str, Any], place: Key) -> list[tuple[Key, str]]:
        """Return the issues that remain with every sample value; ``place`` is the key of fields."""
        fewest: list[tuple[Key, str]] = []
        for sample in SAMPLES:
            filled = with_sample(fields, sample)
            try:
                self._factory(filled, self.reason)
            except DecisionError as error:
                model, values = _parts(self._endpoint, self.action, filled, self._extras)
                refusals = model.find_issues(values, self._extras) or [error.refusal]
                found = [((*place, *refusal.key), refusal.rule) for refusal in refusals]
            except AnswerError as error:
                found = error.issues
            else:
                return []
            if not fewest or len(found) < len(fewest):
                fewest = found
        return fewest

    def render(self, request: Request, captures: Captures) -> Decision | None:
        """Return the decision for a request.

        Raise ``DecisionError`` if the values of placeholders make it invalid; the chain reports an
        invalid answer with the field. A reject stays one, without its text.
        """
        if not self.is_dynamic:
            return self.fixed
        try:
            return self._rendered(request, captures)
        except DecisionError as error:
            if not self.rejects:
                raise
            # Callers choose such values, and a long display name must admit no one.
            warning = f"reject_reason: is left out: {error.refusal.rule}"
            return Reject(reason=self.reason).with_warnings(warning)

    def _rendered(self, request: Request, captures: Captures) -> Decision:
        try:
            fields = render(self._fields, request, captures)
        except ConversionError as error:
            raise ENDPOINTS[self._endpoint].refuse(str(error)) from None
        for name in self._protections:
            if not str(fields[name]).strip():
                text = f"then.{name} is empty, as its placeholder has no value"
                raise ENDPOINTS[self._endpoint].refuse(text)
        decision = self._factory(fields, self.reason)
        name = self._fields.get("name")
        named = isinstance(decision, Gateway) and isinstance(name, Text)
        if named and name.lacks_value(request, captures):
            return decision.with_warnings(NOT_UNIQUE)
        return decision


def _factory(endpoint: str, then: Then, extras: Extras) -> tuple[Factory, Mapping[str, Any]]:
    """Return the factory of the decision, and the fields that it takes."""
    if then.image is not None:
        return _picture(endpoint, then.image), {}
    if then.result is not None:
        if "reason" in then.result:
            raise AnswerError(
                "is not a field of a result; write it next to result", "result", "reason"
            )
        if endpoint == "participant_avatar":
            raise AnswerError("an avatar is a picture; write image with its path", "result")
        return _maker(endpoint, "result", extras), then.result
    if then.action == "reject":
        return _reject(endpoint, then, extras)
    if then.action == "redirect":
        if endpoint != "service_configuration":
            raise AnswerError(f"{endpoint} cannot redirect", "action")
        return _maker(endpoint, "redirect", extras), {"new_alias": then.new_alias}
    return lambda _, reason: Continue(reason=reason), {}


def _reject(endpoint: str, then: Then, extras: Extras) -> tuple[Factory, Mapping[str, Any]]:
    if endpoint not in CAN_REJECT:
        raise AnswerError(f"{endpoint} cannot reject; write continue", "action")
    if then.reject_reason is None:
        return lambda _, reason: Reject(reason=reason), {}
    if endpoint != "participant_properties":
        text = f"is not shown at {endpoint}; write reason, which is logged"
        raise AnswerError(text, "reject_reason")
    return _maker(endpoint, "reject", extras), {"reject_reason": then.reject_reason}


def _picture(endpoint: str, path: Path) -> Factory:
    if endpoint != "participant_avatar":
        raise AnswerError(f"{endpoint} has no picture", "image")
    track_file(path)
    try:
        image = read_file(path)
    except OSError as error:
        raise AnswerError(
            f"{path.name} cannot be read: {why_unusable(path, error)}", "image"
        ) from None
    try:
        Avatar(image).resized(None, None)
    except DecisionError as error:
        raise AnswerError(f"{path.name}: {error.refusal.rule}", "image") from None
    return lambda _, reason: Avatar(image, reason=reason)


def _maker(endpoint: str, action: str, extras: Extras) -> Factory:
    def make(fields: Mapping[str, Any], reason: str) -> Decision:
        model, values = _parts(endpoint, action, fields, extras)
        return model.from_result(values, reason=reason, extras=extras, strict=True)

    return make


def _parts(
    endpoint: str, action: str, fields: Mapping[str, Any], extras: Extras
) -> tuple[type[Decision], Mapping[str, Any]]:
    """Return the class of a decision, and its fields; a service is a ``conference`` by default."""
    if action in _ACTIONS:
        return _ACTIONS[action], fields
    if endpoint != "service_configuration":
        return _RESULTS[endpoint], fields
    try:
        model = service_class(fields.get("service_type", "conference"), extras)
    except DecisionError as error:
        raise AnswerError(error.refusal.rule, "result", "service_type") from None
    values = dict(fields)
    values.setdefault("service_tag", "")
    if "service_type" in contract_of(model).constants:
        values.pop("service_type", None)
    return model, values
