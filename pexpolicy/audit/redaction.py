"""What may be written down of a request and of a reply.

Each parameter and each field is typed: plain, personal or secret (``Privacy``). Secrets go, in any
case; what is not typed counts as one, for it may hold anything. What becomes of personal values
is for the administrator to say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote

import msgspec
from orjson import Fragment

from pexpolicy.config.settings import Settings
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.directory_information import Directory
from pexpolicy.endpoints.participant_avatar import Avatar
from pexpolicy.models.alias import Alias, without_password
from pexpolicy.models.decision import Continue, Decision, Reject
from pexpolicy.models.model import assign
from pexpolicy.models.request import Params, Request, alias, header_name
from pexpolicy.models.rules import Privacy
from pexpolicy.models.serialization import ModelBase

REMOVED = "***"
ATTRIBUTE = "idp_attribute_"
LONGEST_NAME = 100
"""Characters of the name of a parameter that we do not know: it is somebody else's text."""
LONGEST_PATH = 200
"""Characters of a path that we do not know."""
_SHAPED = (Continue, Reject, Avatar, Directory)
"""Decisions of which the endpoint says what their result is."""
_BEFORE_ALIAS = tuple(e.path for e in ENDPOINTS.values() if e.path.endswith("/"))

Personal = Callable[[str], str | None]
"""What is written for a personal value; ``None`` for nothing."""


def hashed(key: bytes) -> Personal:
    """Writes a keyed hash, so that one can still ask whether two lines speak of the same person.

    16 hexadecimal digits of BLAKE2b: without the key nobody can try names until one fits.
    """
    short = hashlib.blake2b(key, digest_size=32).digest()

    def of(value: str) -> str:
        digest = hashlib.blake2b(value.encode("utf-8", "replace"), key=short, digest_size=8)
        return f"hash:{digest.hexdigest()}"

    return of


def dropped(_: str) -> None:
    """Writes nothing."""


def redaction_of(settings: Settings) -> Redaction:
    """What a configuration wants to be written down."""
    if settings.privacy_key is not None:
        return Redaction(hashed(settings.privacy_key.get_secret_value().encode()))
    return Redaction(dropped if settings.privacy.personal == "dropped" else None)


class Redaction:
    """What is left of requests and replies; ``personal`` is ``None`` where names stay in clear."""

    def __init__(self, personal: Personal | None = None) -> None:
        self._personal = personal
        self._parameters = {n: _Parameters(e.request, personal) for n, e in ENDPOINTS.items()}

    def request(
        self, endpoint: str, params: Params, called: str
    ) -> tuple[dict[str, Any], list[str]]:
        """What came and may be written down, and the names of what came and may not.

        Empty values are left out; a repeated parameter keeps all its values. ``called`` is the
        alias in the path, or empty.
        """
        facts, withheld = self._parameters[endpoint].of(params)
        if called:
            shown = without_password(called)
            written = shown if self._personal is None else self._personal(Alias(shown))
            if written is None:
                withheld.append("alias")
            else:
                facts["alias"] = written
        return facts, withheld

    def path(self, path: str) -> str:
        """What may be written down of a path that is not answered, percent-encoded as it came.

        Below a wrong prefix, such as that of another ``base_path``, there may be an alias in it.
        """
        if self._personal is not None:
            for known in _BEFORE_ALIAS:
                before, found, called = path.rpartition(known)
                if found and called:
                    path = f"{before}{found}{self._personal(Alias(unquote(called))) or REMOVED}"
        return "/".join(map(_segment, path.split("/")))[:LONGEST_PATH]

    def result(self, endpoint: str, decision: Decision) -> tuple[object, list[str]]:
        """What of the ``result`` of a reply may be written down, and the names of what may not.

        ``None`` where the reply has no ``result``. It is worked out once for each decision: most
        were made when the policy was built, and are sent again and again.
        """
        known = decision.logged
        if known is None or known[0] is not self:
            if type(decision) in _SHAPED:
                return self._shaped(endpoint, decision)
            known = (self, *self._written(decision))
            assign(decision, "logged", known)
        return known[1], known[2]

    def _shaped(self, endpoint: str, decision: Decision) -> tuple[object, list[str]]:
        """The result of a decision whose endpoint says what stands in it, if anything."""
        shaped = ENDPOINTS[endpoint].envelope(decision).get("result")
        if isinstance(shaped, Fragment):
            return msgspec.Raw(decision.result), []
        if not shaped or (self._personal is None and not _shows_password(decision.result)):
            return shaped, []
        removed: list[str] = []
        (entry,) = Directory.nested
        return [self._masked(item, entry, removed) for item in shaped], _once(removed)

    def _written(self, decision: Decision) -> tuple[object, list[str]]:
        cls, result = type(decision), decision.result
        if (
            self._personal is None
            and not decision.warnings
            and not any(mark in result for mark in cls.secret_marks)
            and not _shows_password(result)
        ):
            return msgspec.Raw(result), []
        removed: list[str] = []
        return self._masked(decision.set_fields(), cls, removed), removed

    def _masked(
        self, fields: Mapping[str, Any], cls: type[ModelBase], removed: list[str]
    ) -> dict[str, Any]:
        masked: dict[str, Any] = {}
        for name, value in fields.items():
            if name in cls.secrets or name not in cls.names:
                masked[name] = REMOVED
                removed.append(name)
            elif cls.nested and isinstance(value, list):
                masked[name] = [
                    self._masked(item, cls.nested[0], removed) if isinstance(item, dict) else item
                    for item in value
                ]
            elif self._personal is not None and isinstance(value, str) and _is_personal(cls, name):
                if (written := self._personal(value)) is None:
                    removed.append(name)
                else:
                    masked[name] = written
            else:
                masked[name] = without_password(value) if isinstance(value, str) else value
        return masked


class _Parameters:
    """The parameters of one kind of request that may be written down."""

    def __init__(self, request: type[Request], personal: Personal | None) -> None:
        known = request.parameters().values()
        wires = {p.wire for p in known if not p.secret}
        self._shown = frozenset(wires | {header_name(wire) for wire in wires})
        self._personal = personal
        named = [p for p in known if p.privacy is Privacy.PERSONAL]
        self._people = {
            spelt: p.read is alias for p in named for spelt in (p.wire, header_name(p.wire))
        }
        """Personal parameters, and whether each is an alias."""

    def of(self, params: Params) -> tuple[dict[str, Any], list[str]]:
        shown = self._shown
        facts: dict[str, Any] = {}
        withheld: list[str] = []
        for name, value in params.items():
            if not value:
                continue
            if (
                name not in shown
                and not name.startswith(ATTRIBUTE)
                and header_name(name) not in shown
            ):
                withheld.append(name[:LONGEST_NAME])
            elif name in facts:
                facts[name] = _more(facts[name], without_password(value))
            else:
                facts[name] = without_password(value)
        if self._personal is not None:
            self._mask(facts, withheld, self._personal)
        return facts, withheld

    def _mask(self, facts: dict[str, Any], withheld: list[str], personal: Personal) -> None:
        """Put what the configuration wants in the place of the personal ones."""
        for name in list(facts):
            is_alias = self._people.get(name, self._people.get(header_name(name)))
            if is_alias is None and not name.startswith(ATTRIBUTE):
                continue
            given = facts[name] if isinstance(facts[name], list) else [facts[name]]
            written = [personal(Alias(value) if is_alias else value) for value in given]
            if None in written:
                del facts[name]
                withheld.append(name[:LONGEST_NAME])
            else:
                facts[name] = written if isinstance(facts[name], list) else written[0]


def _is_personal(cls: type[ModelBase], name: str) -> bool:
    field = cls.fields.get(name)
    return field is not None and field.privacy is Privacy.PERSONAL


def _segment(written: str) -> str:
    """Return a segment of a path as it came, or encoded again without the password in it."""
    plain = unquote(written)
    shown = without_password(plain)
    return written if shown == plain else quote(shown, safe="@:;*")


def _shows_password(result: bytes) -> bool:
    """Tell whether a text of a result is a URI with a password."""
    if b"@" not in result or b":" not in result:
        return False
    written = result.decode("utf-8", "replace")
    return without_password(written) != written


def _once(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _more(before: Any, value: str) -> list[str]:
    return [*before, value] if isinstance(before, list) else [before, value]
