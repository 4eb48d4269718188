"""The request of ``pexpolicy explain``: an alias, a decision ID, or a record of a request."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from pexpolicy.audit.reader import CorruptLine, file_and_rotated, raw_lines, read
from pexpolicy.audit.redaction import REMOVED
from pexpolicy.cli.audit.filters import parse_time
from pexpolicy.cli.audit.input import paths_of, refuse, settings_of
from pexpolicy.config.time_zones import zone_names
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.explain.request_forms import (
    ALIAS,
    InvalidRequestError,
    RecordedRequest,
    endpoint_of,
    of_audit_line,
    parse_moment,
    read_request,
    with_parameters,
)
from pexpolicy.models.request import POLICY_PREFIX
from pexpolicy.testing.requests import composed, url_of
from pexpolicy.text import did_you_mean, is_utf8, printable

DEFAULT_ENDPOINT = "service_configuration"
WHOLE_ID = 36
MAX_LISTED = 10
"""Maximum number of calls that an ambiguous beginning lists."""
_DECISION_ID = re.compile(r"0[0-9a-f]{7}(?:-[0-9a-f-]{0,27})?")
"""A UUID version 7, or its beginning; the first digit is 0 until the year 4199."""
_NAMES = ("local_alias", "service_name", "unique_service_name")
"""Parameters that are the called alias, or are derived from it."""


def requested(
    text: str,
    config: Path,
    endpoint: str | None,
    changes: Mapping[str, list[str]],
    shape: str | None = None,
) -> RecordedRequest:
    """Return the request that the arguments of the command mean, with changed parameters.

    ``shape`` is the kind of call for an alias with an endpoint, such as ``sip``. Raise
    ``InvalidRequestError``; exit with 2 for a decision ID that is not in the audit log or is
    ambiguous.
    """
    if text == "-":
        # Other bytes than UTF-8 become surrogates, as in arguments, whatever the locale is.
        text = sys.stdin.buffer.readline().decode("utf-8", "surrogateescape")
    text = text.strip().removeprefix("\ufeff").strip()
    if not is_utf8(text):
        msg = "the request is not UTF-8 text"
        raise InvalidRequestError(msg)
    name, equals, _ = text.partition("=")
    if equals and any(name in one.request.parameters() for one in ENDPOINTS.values()):
        msg = "write the alias alone; other parameters follow it, each with --set, as in:\n"
        raise InvalidRequestError(f"{msg}  pexpolicy explain ALIAS --set {printable(text)}")
    if endpoint is not None:
        if not text or POLICY_PREFIX in text or text.startswith("{"):
            msg = "--endpoint is for an alias; leave it out for a request that was recorded"
            raise InvalidRequestError(msg)
        return with_parameters(_of_alias(endpoint, text, shape), changes)
    found = None
    if _DECISION_ID.fullmatch(text.lower()):
        found = _from_audit(text.lower(), config)
    if found is None and len(text.split()) > 1 and not re.search(r"[/?&={\[<:]", text):
        msg = (
            f"{printable(text)} is no alias, as it has a blank: write one, such as meet@example.com"
        )
        raise InvalidRequestError(msg)
    if found is None and _is_alias(text):
        found = _of_alias(DEFAULT_ENDPOINT, text)
    return with_parameters(found or read_request(text), changes)


def doubts(request: RecordedRequest, changes: Mapping[str, list[str]]) -> list[str]:
    """Return what the record does not tell of the request, and unknown names of parameters."""
    found = []
    if request.missing:
        found.append(f"the audit line was written without {', '.join(request.missing)}")
    if request.altered:
        altered = ", ".join(request.altered)
        found.append(f"the audit line has a hash, or {REMOVED}, in the value of {altered}")
    if request.is_cut:
        found.append("the line is cut: parameters may be missing at its end")
    name, _, _ = endpoint_of(request.url)
    known = ENDPOINTS[name].request.parameters()
    names = {*known, *(parameter.wire for parameter in known.values()), "alias", "peer"}
    prefixes = ("idp_attributes.", "idp_attribute_")
    for key in changes.keys() - names:
        if not key.startswith(prefixes):
            guess = did_you_mean(key, names)
            found.append(f"{key} is no parameter of {name} that is known here{guess}")
    return found


def parse_changes(pairs: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the values of ``key=value`` arguments by key; raise ``BadParameter``."""
    changes: dict[str, list[str]] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            msg = f"{pair!r} has no value: write --set remote_address=10.44.0.7"
            raise click.BadParameter(msg, param_hint="--set")
        changes.setdefault(key, []).append(value)
    return changes


def parse_at(text: str | None, recorded: datetime | None) -> datetime | None:
    """Return the time of ``--at`` in its zone, or that of the record; ``None`` for the present.

    A time without a zone is in that of this machine, and one without a day is that of today.
    """
    if text is None:
        return recorded
    if text == "now":
        return None
    try:
        return parse_moment(text)
    except ValueError:
        pass
    try:
        clock, _, zone = text.strip().partition(" ")
        if zone in zone_names():
            at = time.fromisoformat(clock)
            return datetime.combine(datetime.now(ZoneInfo(zone)), at, at.tzinfo or ZoneInfo(zone))
        return parse_time(text, datetime.now(UTC)).astimezone()
    except ValueError:
        msg = f"{text!r} is not a time: write now, 22:00, 22:00 Europe/Oslo, 2026-12-24 22:00, or "
        raise click.BadParameter(f"{msg}2026-12-24 22:00 Europe/Oslo", param_hint="--at") from None


def _is_alias(text: str) -> bool:
    # A query has two =, and the parameters of an alias, each after a ;, may have as many.
    other = re.search(r"\s|://|^[/?{\[]|\?.*=|^[^;]*=.*=", text)
    return bool(text) and POLICY_PREFIX not in text and other is None


def _of_alias(endpoint: str, alias: str, shape: str | None = None) -> RecordedRequest:
    """Return the request of a node for an alias, with the parameters of a usual call."""
    if ENDPOINTS[endpoint].path.endswith("/"):
        fields = {"alias": alias}
    elif endpoint == "directory_information":
        fields = {"q": alias}
    else:
        known = ENDPOINTS[endpoint].request.parameters()
        fields = {name: alias for name in _NAMES if name in known}
        if endpoint == DEFAULT_ENDPOINT:
            fields = {"local_alias": alias}
    return RecordedRequest(url_of(composed(endpoint, shape, fields)), ALIAS, given=tuple(fields))


def _from_audit(beginning: str, config: Path) -> RecordedRequest | None:
    """Return the request of the call in the audit log; ``None`` for what may be an alias too."""
    certain = "-" in beginning
    if certain:
        paths = paths_of(config, ())
    else:
        settings = settings_of(config)
        file = settings.audit.path
        paths = [] if file is None else file_and_rotated(settings.resolve(file))
    calls = _calls(paths, beginning)
    if len(calls) > 1:
        listed = [_summary(event) for event in list(calls.values())[:MAX_LISTED]]
        more = len(calls) - len(listed)
        if more:
            listed.append(f"and {more} more")
        text = f"{len(calls)} decision IDs begin with {beginning}; write more of one of them:"
        refuse("\n  ".join([text, *listed]))
    if not calls and certain:
        refuse(f"no call in the audit log has a decision ID that begins with {beginning}")
    return of_audit_line(next(iter(calls.values()))) if calls else None


def _calls(paths: list[Path], beginning: str) -> dict[str, dict[str, Any]]:
    """Return the lines of calls by decision ID, the newest files first."""
    mark = f'"decision_id":"{beginning}'.encode()
    calls: dict[str, dict[str, Any]] = {}
    for path in reversed(paths):
        for raw in raw_lines([path]):
            if mark not in raw.content and not raw.damage:
                continue
            for found in read(raw):
                if isinstance(found, CorruptLine):
                    click.secho(str(found), fg="red", err=True)
                elif found.event["event"] == "decision":
                    calls[str(found.event.get("decision_id"))] = found.event
        if calls and len(beginning) == WHOLE_ID:
            break
    return calls


def _summary(event: Mapping[str, Any]) -> str:
    request = event.get("request") or {}
    alias = request.get("local_alias") or request.get("alias") or ""
    parts = (event.get("decision_id"), event.get("timestamp"), event.get("endpoint"), alias)
    return printable("  ".join(str(part) for part in parts if part))
