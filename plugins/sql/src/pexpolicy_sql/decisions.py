"""Decisions of the rows of a query."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pexpolicy import (
    Avatar,
    Continue,
    Credentials,
    Decision,
    Directory,
    DirectoryEntry,
    MediaLocation,
    ParticipantProperties,
    Redirect,
    Reject,
    Service,
)
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.fields import FieldsOf
from pexpolicy.models.contract import Extras, contract_of
from pexpolicy.rows import RowValues
from pexpolicy.text import brief, did_you_mean
from pexpolicy_sources import Row

ACTION, REASON = "action", "reason"
_MODELS: Mapping[str, Any] = {
    "participant_properties": ParticipantProperties,
    "media_location": MediaLocation,
    "registration_alias": Credentials,
}
_ENTRIES = RowValues(DirectoryEntry)


class RowDecisions:
    """Makes the decisions of one endpoint, each of the rows that a query returned."""

    def __init__(self, endpoint: str, extras: Extras) -> None:
        self._endpoint = endpoint
        self._extras = extras
        self.make: Callable[[Sequence[Row]], Decision] = self._of_first
        """Makes the decision; raises ``DecisionError``. There is a row at least."""
        self._columns = dict.fromkeys((ACTION, REASON), False)
        """The columns that the query may have, and whether a result needs them."""
        self._actions = {"continue": self._continue}
        self._result: Callable[[Row, str | None], Decision] = self._fields
        self._model: Any = _MODELS.get(endpoint)
        self._values = {"": RowValues(self._model)} if self._model is not None else {}
        if endpoint == "directory_information":
            self.make = self._directory
            self._actions = {}
            self._columns = _columns(DirectoryEntry)
        elif endpoint == "participant_avatar":
            self._result = self._avatar
            self._columns["image"] = True
        elif self._model is not None:
            self._columns |= _columns(self._model)
        else:
            self._model = Service
            self._values = {name: RowValues(kind) for name, kind in SERVICE_TYPES.items()}
            for kind in SERVICE_TYPES.values():
                self._columns |= dict.fromkeys(contract_of(kind).hints, False)
            self._columns |= {"name": True, "new_alias": False}
            self._actions["redirect"] = partial(_with_field, Redirect, "new_alias")
        if ENDPOINTS[endpoint].can_reject:
            self._actions["reject"] = partial(_with_field, Reject, "reject_reason")
        if ENDPOINTS[endpoint].shows_reject_reason:
            self._columns["reject_reason"] = False

    def can_reject(self, columns: Iterable[str] | None) -> bool:
        """Return whether a query with these columns can reject; ``None`` if they are unknown."""
        return "reject" in self._actions and (columns is None or ACTION in columns)

    def issues(self, columns: Sequence[str]) -> Iterator[str]:
        """Yield what is wrong with the columns of the query."""
        known = {**self._columns, **dict.fromkeys(self._extras.fields, False)}
        for name in dict.fromkeys(columns):
            if columns.count(name) > 1:
                yield f"the query has two columns {brief(name)}: give one another name, with AS"
            if name not in known:
                guess = did_you_mean(name, known) or f"; there are {', '.join(sorted(known))}"
                yield f"the query has the column {brief(name)}, and no such field exists{guess}"
        for name, is_needed in self._columns.items():
            if is_needed and name not in columns and ACTION not in columns:
                yield f"the query has no column {name}: a decision of {self._endpoint} needs it"

    def _of_first(self, rows: Sequence[Row]) -> Decision:
        fields = {name: value for name, value in rows[0].items() if value is not None}
        action, reason = fields.pop(ACTION, "continue"), fields.pop(REASON, None)
        make = self._actions.get(action) if isinstance(action, str) else None
        if make is None:
            text = f"{ACTION} is {brief(action)}, and not one of {', '.join(self._actions)}"
            raise ENDPOINTS[self._endpoint].refuse(text)
        return make(fields, reason)

    def _continue(self, fields: Row, reason: str | None) -> Decision:
        return self._result(fields, reason) if fields else Continue(reason=reason)

    def _fields(self, fields: Row, reason: str | None) -> Decision:
        if self._endpoint == "service_configuration":
            fields.setdefault("service_tag", "")
            kind = fields.get("service_type", "conference")
            values = self._values.get(kind) if isinstance(kind, str) else None
        else:
            values = self._values[""]
        if values is not None:
            fields = values.of(fields)
        decision: Decision = FieldsOf(self._model, fields, self._extras).decision(reason=reason)
        return decision

    def _avatar(self, fields: Row, reason: str | None) -> Decision:
        image = fields.get("image")
        try:
            # Sources have bytes in this form, as JSON has none.
            content = base64.urlsafe_b64decode(image or "")
        except (TypeError, ValueError):
            text = "image is no picture: the column takes bytes, such as bytea or BLOB"
            raise ENDPOINTS[self._endpoint].refuse(text) from None
        return Avatar(content, reason=reason)

    def _directory(self, rows: Sequence[Row]) -> Decision:
        return Directory.from_result({"entries": [_ENTRIES.of(row) for row in rows]}, strict=True)


def _with_field(
    model: type[Reject | Redirect], name: str, fields: Row, reason: str | None
) -> Decision:
    return model.from_result({n: fields[n] for n in fields if n == name}, reason=reason)


def _columns(model: Any) -> dict[str, bool]:
    found = contract_of(model)
    return {n: default is ... and n not in found.constants for n, default in found.defaults.items()}
