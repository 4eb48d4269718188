"""Redaction of requests, replies, annotations and steps for the audit log.

Each parameter and each field is declared plain, personal or secret (``Privacy``), where it is
defined: ``privacy=`` in ``endpoints/shared_parameters.py`` or in the module of the endpoint.
Secrets are always removed; a name that is not declared counts as secret, since it may hold
anything. The configuration selects what is written for personal values.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from operator import is_
from typing import Any
from urllib.parse import quote, unquote

import msgspec
from msgspec import UNSET, UnsetType
from orjson import Fragment

from pexpolicy.audit.records import AdjustedStepRecord, encode
from pexpolicy.config.settings import Settings
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.alias import Alias, without_password
from pexpolicy.models.contract import Contract, contract_of, mask_secrets, objects_in
from pexpolicy.models.decision import Decision, state_of
from pexpolicy.models.difference import Changes
from pexpolicy.models.outcome import AdjustedStep, Outcome, Step
from pexpolicy.models.request import (
    AnnotationValue,
    Params,
    Request,
    alias,
    annotations_of,
    header_name,
    parameters_of,
    redact,
    secrets_of,
)
from pexpolicy.models.rules import Privacy

Fields = dict[str, Any]
"""Values of fields by their names."""
REMOVED = "***"
_STREAM_KEY = re.compile(r"(rtmp[a-z]*://)(?:[^/\s@]*@)?([^/?#\s]*)[/?#]\S*", re.IGNORECASE)
"""The URL of a stream: its path holds the key with which anyone may publish to it."""
_MAY_HIDE = re.compile(rb':(?://|[^\s<>"@]++@)').search
"""Finds what may be the URL of a stream or a URI with a password."""
IDP_ATTRIBUTE = "idp_attribute_"
MAX_NAME_LENGTH = 100
"""Characters written of the name of an unknown parameter."""
MAX_PATH_LENGTH = 200
"""Characters written of an unknown path."""
_BEFORE_ALIAS = tuple(e.path for e in ENDPOINTS.values() if e.path.endswith("/"))

_KNOWN = {
    endpoint.request: {
        written: (known.privacy is Privacy.PERSONAL, known.read is alias)
        for known in parameters_of(endpoint.request).values()
        if not known.secret
        for written in (known.wire, header_name(known.wire))
    }
    for endpoint in ENDPOINTS.values()
}
"""The parameters of each request type that may be written: whether each is personal, and an alias.
"""
_NOT_FIELDS = ("action", "reason", "image")
"""Changes that are not fields of a result: they hold no secrets."""
SHORTEST = 3
"""Characters of the shortest text that is looked for: shorter ones are parts of other words."""
SHOWN = 60
"""Characters that a detail shows of a longer value."""
_FIELD = re.compile(
    r"""\A(\w++\.[\w.\[\]]++\ =\ )  # possessive: callers choose some of the text
    (?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?:…\ \(\d+\ long\))?""",
    re.VERBOSE,
)
"""The field of an invalid answer with its text."""

Steps = Sequence[Step | AdjustedStepRecord]
Personal = Callable[[str], str | None]
"""Returns what is written for a personal value; ``None`` to leave it out."""


def keyed_hash(key: bytes) -> Personal:
    """Return a function that hashes a value with a key, so that lines of one person still match.

    The hash has 16 hexadecimal digits of BLAKE2b. Without the key, names cannot be guessed by
    trying.
    """
    short = hashlib.blake2b(key, digest_size=32).digest()

    def of(value: str) -> str:
        digest = hashlib.blake2b(value.encode("utf-8", "replace"), key=short, digest_size=8)
        return f"hash:{digest.hexdigest()}"

    return of


def drop(_: str) -> None:
    """Leave a value out."""


def redaction_of(settings: Settings) -> Redaction:
    """Return the redaction of a configuration."""
    if settings.privacy_key is not None:
        return Redaction(keyed_hash(settings.privacy_key.get_secret_value().encode()))
    return Redaction(drop if settings.privacy.personal == "dropped" else None)


class Redaction:
    """Removes secrets, and applies ``personal`` to personal values; ``None`` keeps them."""

    def __init__(self, personal: Personal | None = None) -> None:
        self.personal = personal

    def request(self, endpoint: str, params: Params, called: str) -> tuple[Fields, list[str]]:
        """Return the parameters that may be written, and the names of those that may not.

        Empty values are left out; a repeated parameter keeps all its values. ``called`` is the
        alias in the path, or empty.
        """
        facts: Fields = {}
        withheld: dict[str, None] = {}
        kind, keeps = ENDPOINTS[endpoint].request, self.personal is None
        parameters = _KNOWN[kind]
        for name, value in params.items():
            if not value:
                continue
            known = parameters.get(name) or _known(kind, name)
            if known is None:
                text = None
            elif ":" not in value and (keeps or not known[0]):
                text = value  # not a URI, so without a password or the key of a stream
            else:
                text = self._written(value, *known)
            if text is None:
                withheld[name[:MAX_NAME_LENGTH]] = None
            elif name in facts:
                first = facts[name]
                facts[name] = [*(first if isinstance(first, list) else [first]), text]
            else:
                facts[name] = text
        if called:
            facts["alias"] = self._written(called, is_personal=True, is_alias=True)
            if facts["alias"] is None:
                withheld["alias"] = facts.pop("alias")
        return facts, [*withheld]

    def _written(self, value: str, is_personal: bool, is_alias: bool) -> str | None:  # noqa: FBT001
        """Return what is written of a parameter; ``None`` to leave it out."""
        text = without_password(value) if "@" in value else value
        if self.personal is None:
            return without_stream_key(text) if "://" in text else text
        if not is_personal:
            return text
        return self.personal(Alias(text) if is_alias else text)

    def path(self, path: str) -> str:
        """Return what may be written of a path that is not answered, percent-encoded as received.

        It may contain an alias after a wrong prefix, such as that of another ``base_path``.
        """
        if self.personal is not None:
            for known in _BEFORE_ALIAS:
                before, found, called = path.rpartition(known)
                if found and called:
                    path = f"{before}{found}{self.personal(Alias(unquote(called))) or REMOVED}"
        return "/".join(map(_segment, path.split("/")))[:MAX_PATH_LENGTH]

    def result(self, endpoint: str, decision: Decision) -> tuple[object, list[str]]:
        """Return the ``result`` of a reply without its secrets, and the names of removed fields.

        ``None`` if the reply has no ``result``.
        """
        shaped = ENDPOINTS[endpoint].envelope(decision).get("result")
        if not shaped:
            return shaped, []
        masked = self.masked(decision)
        if isinstance(shaped, Fragment):
            return masked or (msgspec.Raw(decision.result), [])
        return (shaped, []) if masked is None else (masked[0]["entries"], masked[1])

    def outcome(self, outcome: Outcome) -> tuple[Steps, object, dict[str, Fields], list[str]]:
        """Return what may be written of the steps, the result and the annotations of an outcome,
        and the names of what may not.
        """
        result, removed = self.result(outcome.endpoint, outcome.decision)
        annotations, dropped = redact_annotations(outcome.request, self)
        return _written_steps(outcome, self), result, annotations, [*removed, *dropped]

    def masked(self, decision: Decision) -> tuple[Fields, list[str]] | None:
        """Return the fields without secrets, and the removed names; ``None`` if none is removed.

        It is cached with the result: most are checked once, and sent or adjusted many times.
        """
        checked = state_of(decision).checked
        if checked.redacted_by is not self:
            checked.redacted, checked.redacted_by = self._mask_result(decision), self
        return checked.redacted

    def _mask_result(self, decision: Decision) -> tuple[Fields, list[str]] | None:
        contract, fields = contract_of(type(decision)), decision.set_fields()
        removed = mask_secrets(contract, fields)
        if self.personal is not None or _MAY_HIDE(decision.result):
            removed += self._remove_from_texts(fields, contract)
        is_whole = self.personal is None and not removed
        return None if is_whole else (fields, [*dict.fromkeys(removed)])

    def _remove_from_texts(self, fields: Fields, contract: Contract) -> list[str]:
        """Replace what is secret or personal in texts, at any depth; return what is removed."""
        removed: list[str] = []
        for _, inner, found in objects_in(contract, fields):
            for name, value in [*found.items()]:
                if not isinstance(value, str):
                    continue
                if self.personal is not None and inner.field(name).privacy is Privacy.PERSONAL:
                    # In its normal form, as in a request, so that both have one hash.
                    found[name] = self.personal(Alias(value) if name.endswith("alias") else value)
                    if found[name] is None:
                        del found[name]
                        removed.append(name)
                else:
                    found[name] = without_password(without_stream_key(value))
                    removed += [name] * (found[name] != value)
        return removed


def without_stream_key(text: str) -> str:
    """Return a text with ``***`` for the path of each RTMP URL in it."""
    return _STREAM_KEY.sub(r"\1\2/***", text)


def _known(kind: type[Request], name: str) -> tuple[bool, bool] | None:
    """Return whether a parameter is personal, and an alias; ``None`` if it must not be written."""
    if name.startswith(IDP_ATTRIBUTE):
        return True, False
    known = _KNOWN[kind]
    return known.get(name) or known.get(header_name(name))


def _segment(encoded: str) -> str:
    """Return a segment of a path as received, or encoded again without the password in it."""
    text = unquote(encoded)
    redacted = without_password(text)
    return encoded if redacted == text else quote(redacted, safe="@:;*")


def redact_annotations(
    request: Request, redaction: Redaction
) -> tuple[dict[str, Fields], list[str]]:
    """Return what may be written of the annotations, and the names of those that may not.

    A text that equals a personal parameter is personal, and one that contains a secret parameter
    is written without it.
    """
    annotations = annotations_of(request)
    if annotations is None:
        return {}, []
    personal, secrets = redaction.personal, secrets_of(request)
    people = {} if personal is None else _personal_texts(request)

    def written_value(value: AnnotationValue, privacy: Privacy) -> AnnotationValue | UnsetType:
        text = str(value)
        if privacy is Privacy.SECRET or text in secrets:
            return REMOVED
        if personal is not None and (privacy is Privacy.PERSONAL or text in people):
            written = personal(people.get(text, text))
            return UNSET if written is None else written
        if isinstance(value, str):
            return without_password(without_stream_key(redact(value, secrets)))
        return value

    kept: dict[str, Fields] = {}
    removed: list[str] = []
    # Copies, as a hook that was abandoned in a thread may still add to them.
    for plugin, values in annotations.by_plugin.copy().items():
        shown = {name: written_value(*value) for name, value in values.copy().items()}
        kept[plugin] = {name: value for name, value in shown.items() if value is not UNSET}
        removed += [f"annotations.{plugin}.{n}" for n, v in shown.items() if v in (UNSET, REMOVED)]
        if plugin in annotations.left_out:
            removed.append(f"annotations.{plugin}")
    return kept, removed


def _personal_texts(request: Request) -> Mapping[str, str]:
    """Return the personal texts of a request, each in the form that is hashed for the audit."""
    people = {
        text: Alias(text) if known[1] else text
        for name, text in request.params.items()
        if (known := _known(type(request), name)) is not None and known[0]
    }
    if (called := request.__dict__.get("alias")) is not None:
        people[called.raw] = called
    people.pop("", None)
    return people


def _written_steps(outcome: Outcome, redaction: Redaction) -> Steps:
    """Return the steps of an outcome for a line: adjusted ones with their changes, and details
    without the personal values of the request and of the answer.
    """
    personal = redaction.personal
    hides = personal is not None and outcome.has_slow_or_failed_steps
    if not hides and not outcome.adjusted:
        return outcome.steps
    people = _personal_texts(outcome.request) if hides else {}
    steps: list[Step | AdjustedStepRecord] = []
    for step in outcome.steps:
        if isinstance(step, AdjustedStep):
            changes = _written_changes(step, redaction)
            steps.append(AdjustedStepRecord(step.plugin, step.outcome, step.ms, step.hook, changes))
        elif personal is not None and step.detail:
            detail = _redact_detail(step.detail, people)
            steps.append(msgspec.structs.replace(step, detail=detail))
        else:
            steps.append(step)
    return steps


def plain_steps(outcome: Outcome) -> Steps:
    """Return the steps of an outcome without the values of adjusted fields."""
    return [
        Step(step.plugin, step.outcome, step.ms, step.detail, step.hook, step.fields)
        for step in outcome.steps
    ]


def _written_changes(step: AdjustedStep, redaction: Redaction) -> msgspec.Raw:
    """Return the changes as JSON, kept in the decision that they lead to."""
    before, state = step.before, state_of(step.after)
    key = redaction, before.result, before.reason
    # The same adjustment is made in most calls: comparing costs 15 % of a call.
    if state.changes is None or not all(map(is_, key, state.changes)):
        state.changes = (*key, msgspec.Raw(encode(redact_changes(step, redaction))))
    written: msgspec.Raw = state.changes[3]
    return written


def redact_changes(step: AdjustedStep, redaction: Redaction | None) -> Changes:
    """Return each changed field, ``from`` what ``to`` what, with ``***`` for what is removed.

    Without a redaction nothing is.
    """
    before, after = (
        None if redaction is None or not (found := redaction.masked(decision)) else found[0]
        for decision in (step.before, step.after)
    )
    return {
        name: {
            side: value if masked is None or name in _NOT_FIELDS else masked.get(name, REMOVED)
            for side, value, masked in (("from", old, before), ("to", new, after))
            if value is not UNSET
        }
        for name, (old, new) in step.changes.items()
    }


def _redact_detail(detail: str, people: Mapping[str, str]) -> str:
    """Return the detail of a step without the personal values of the request and the answer."""
    parts = (
        part
        for text, hashed in people.items()
        for part in (text, text[:SHOWN], repr(text)[1:-1], str(hashed))
        if len(part) >= SHORTEST
    )
    return redact(_FIELD.sub(rf"\1{REMOVED}", detail, count=1), parts)
