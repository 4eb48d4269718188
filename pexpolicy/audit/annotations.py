"""Redaction of annotations for the audit log."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pexpolicy.audit.redaction import IDP_ATTRIBUTE, REMOVED, Redaction, without_stream_key
from pexpolicy.models.alias import Alias, without_password
from pexpolicy.models.annotations import AnnotationValue
from pexpolicy.models.request import Request, alias, header_name
from pexpolicy.models.rules import Privacy
from pexpolicy.models.withheld import redact


def redact_annotations(
    request: Request, redaction: Redaction, plugins: Collection[str] | None = None
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return what may be written of the annotations, and the names of those that may not.

    Those of ``plugins`` only, if given. A text that equals a personal parameter is personal, and
    one that contains a secret parameter is written without it.
    """
    annotations = request.annotations
    if annotations is None:
        return {}, []
    rules = _Rules(request, redaction)
    written: dict[str, dict[str, Any]] = {}
    removed: list[str] = []
    # Copies, as a hook that was abandoned in a thread may still add to them.
    for plugin, values in annotations.by_plugin.copy().items():
        if plugins is not None and plugin not in plugins:
            continue
        written[plugin] = {}
        for name, (value, privacy) in values.copy().items():
            try:
                written[plugin][name] = kept = rules.apply(value, privacy)
            except _DroppedError:
                kept = REMOVED
            if kept == REMOVED:
                removed.append(f"annotations.{plugin}.{name}")
        if plugin in annotations.left_out:
            removed.append(f"annotations.{plugin}")
    return written, removed


class _DroppedError(Exception):
    """The value must not be written in any form."""


class _Rules:
    """What may be written of the annotations of one request."""

    def __init__(self, request: Request, redaction: Redaction) -> None:
        self._personal = redaction.personal
        self._people = {} if redaction.personal is None else personal_texts(request)
        self._secrets = request.secrets()

    def apply(self, value: AnnotationValue, privacy: Privacy) -> AnnotationValue:
        """Return what is written for a value; raise ``_DroppedError`` if nothing is."""
        text = str(value)
        if privacy is Privacy.SECRET or text in self._secrets:
            return REMOVED
        if self._personal is not None and (privacy is Privacy.PERSONAL or text in self._people):
            written = self._personal(self._people.get(text, text))
            if written is None:
                raise _DroppedError
            return written
        if isinstance(value, str):
            return without_password(without_stream_key(redact(value, self._secrets)))
        return value


def personal_texts(request: Request) -> Mapping[str, str]:
    """Return the personal texts of a request, each in the form that is hashed for the audit."""
    personal = {
        header_name(parameter.wire): parameter.read is alias
        for parameter in request.parameters().values()
        if parameter.privacy is Privacy.PERSONAL
    }
    people: dict[str, str] = {}
    for name, text in request.params.items():
        is_alias = personal.get(header_name(name))
        if is_alias is not None or name.startswith(IDP_ATTRIBUTE):
            people[text] = Alias(text) if is_alias else text
    if (called := request.__dict__.get("alias")) is not None:
        people[called.raw] = called
    people.pop("", None)
    return people
