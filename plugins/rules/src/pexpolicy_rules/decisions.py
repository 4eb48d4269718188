"""The decisions of a rule, rendered once where they are always the same."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pexpolicy import (
    NO_EXTRAS,
    SERVICE_TYPES,
    Avatar,
    Continue,
    Credentials,
    Decision,
    DecisionError,
    Directory,
    Extras,
    Gateway,
    MediaLocation,
    ParticipantProperties,
    Redirect,
    Reject,
    Request,
    ValidationIssue,
    service_class,
    track_file,
)
from pexpolicy_rules.placeholders import (
    Captured,
    Text,
    filled,
    has_placeholders,
    prepared,
    unfillable,
)
from pexpolicy_rules.settings import Then
from pexpolicy_rules.validation import AnswerError, unsound

Make = Callable[[Mapping[str, Any], str], Decision]
_RESULTS: Mapping[str, type[Decision]] = {
    "participant_properties": ParticipantProperties,
    "media_location": MediaLocation,
    "registration_alias": Credentials,
}
CAN_REJECT = ("service_configuration", "participant_properties", "registration_alias")

PROTECTIONS = (
    "pin",
    "guest_pin",
    "host_identity_provider_group",
    "guest_identity_provider_group",
    "username",
    "password",
)
"""Fields of a result that are no protection where they are empty."""
NOT_UNIQUE = (
    "name: a placeholder in it came out empty, and the name of a gateway must be unique per call "
    "[transcribed]"
)


class Answer:
    """The decision of one rule at one endpoint.

    ``fixed`` is the decision where no placeholder stands in it, ``None`` for a rule that abstains.
    Raises ``AnswerError``.
    """

    fixed: Decision | None

    def __init__(
        self,
        endpoint: str,
        then: Then,
        reason: str,
        groups: Collection[str],
        extras: Extras = NO_EXTRAS,
    ) -> None:
        self._make, fields = _maker(endpoint, then, extras)
        self._reason = reason
        self.fills = has_placeholders(fields)
        """True where the decision is made anew for each request."""
        self.refuses = then.action == "reject"
        self.fixed = None
        if then.action == "abstain":
            return
        if not self.fills:
            with suppress(DecisionError):
                self.fixed = self._make(fields, reason)
                return
        place = () if then.result is None else ("result",)
        faults = [((*place, *key), text) for key, text in unfillable(fields, groups)]
        faults += unsound(self._make, fields, place)
        if faults:
            raise AnswerError.of(faults)
        self._fields = prepared(fields, groups)
        self._protections = [n for n in PROTECTIONS if isinstance(self._fields.get(n), Text)]

    def give(self, request: Request, captured: Captured) -> Decision | None:
        """The decision for a request; raises ``DecisionError`` where what was put in does not fit.

        The chain takes that for an invalid answer, and says which field is wrong.
        """
        if not self.fills:
            return self.fixed
        fields = filled(self._fields, request, captured)
        for name in self._protections:
            if not fields[name].strip():
                raise _unprotected(name)
        decision = self._make(fields, self._reason)
        name = self._fields.get("name")
        named = isinstance(decision, Gateway) and isinstance(name, Text)
        if named and name.lacks_value(request, captured):
            return decision.with_warnings(NOT_UNIQUE)
        return decision


def _unprotected(name: str) -> DecisionError:
    """The error for a protection that an empty fill-in would take away."""
    return DecisionError(
        ValidationIssue(
            model="then",
            field=name,
            value=None,
            shown=False,
            rule="comes out empty, as nothing was there to be filled in",
            doc="",
            mark="",
            source="",
            consequence="An empty one would let anybody in",
        )
    )


def _maker(endpoint: str, then: Then, extras: Extras) -> tuple[Make, Mapping[str, Any]]:
    """What makes the decision, and the fields that it is made of."""
    if then.image is not None:
        return _picture(endpoint, then.image), {}
    if then.result is not None:
        if "reason" in then.result:
            raise AnswerError("is no field of a result; write it beside result", "result", "reason")
        return _result(endpoint, extras), then.result
    if then.action == "reject":
        return _reject(endpoint, then)
    if then.action == "redirect":
        if endpoint != "service_configuration":
            raise AnswerError(f"{endpoint} knows no redirect", "action")
        return lambda fields, reason: Redirect(**fields, reason=reason), {
            "new_alias": then.new_alias
        }
    return lambda _, reason: Continue(reason=reason), {}


def _reject(endpoint: str, then: Then) -> tuple[Make, Mapping[str, Any]]:
    if endpoint not in CAN_REJECT:
        raise AnswerError(f"Infinity knows no reject at {endpoint}; write continue", "action")
    if then.reject_reason is None:
        return lambda _, reason: Reject(reason=reason), {}
    if endpoint != "participant_properties":
        text = f"nobody is told it at {endpoint}; write reason, which is logged"
        raise AnswerError(text, "reject_reason")
    fields = {"reject_reason": then.reject_reason}
    return lambda fields, reason: Reject(**fields, reason=reason), fields


def _picture(endpoint: str, path: Path) -> Make:
    if endpoint != "participant_avatar":
        raise AnswerError(f"{endpoint} shows no picture", "image")
    track_file(path)
    try:
        image = path.read_bytes()
    except OSError as error:
        raise AnswerError(f"{path.name} cannot be read: {error.strerror}", "image") from None
    try:
        Avatar(image).resized(None, None)
    except DecisionError as error:
        raise AnswerError(f"{path.name}: {error.refusal.rule}", "image") from None
    return lambda _, reason: Avatar(image, reason=reason)


def _result(endpoint: str, extras: Extras) -> Make:
    if endpoint in _SPECIAL:
        return partial(_SPECIAL[endpoint], extras=extras)
    model = _RESULTS.get(endpoint)
    if model is None:
        raise AnswerError("an avatar is a picture; write image = its path", "result")
    return lambda fields, reason: model.from_result(
        fields, reason=reason, extras=extras, strict=True
    )


def _service(fields: Mapping[str, Any], reason: str, *, extras: Extras) -> Decision:
    """A service by its ``service_type``, which is ``conference`` unless it says another."""
    kind = fields.get("service_type", "conference")
    model = service_class(kind, extras)
    if model is None:
        raise AnswerError(
            f"{kind!r} is none of {', '.join(SERVICE_TYPES)}", "result", "service_type"
        )
    given = dict(fields)
    given.setdefault("service_tag", "")
    if "service_type" in model.constants:
        given.pop("service_type", None)
    return model.from_result(given, reason=reason, extras=extras, strict=True)


def _directory(fields: Mapping[str, Any], reason: str, *, extras: Extras) -> Decision:
    """Entries without a user name have an empty one."""
    return Directory.from_result(fields, reason=reason, extras=extras, strict=True)


_SPECIAL: Mapping[str, Callable[..., Decision]] = {
    "service_configuration": _service,
    "directory_information": _directory,
}
