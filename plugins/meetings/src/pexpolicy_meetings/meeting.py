"""Meetings: their fields, what is wrong with those of a request, and the service they become."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from pexpolicy.models.alias import Alias, why_never_called
from pexpolicy.models.validation import wanted
from pexpolicy.text import suggest
from pexpolicy_meetings.settings import TenantOf, service_problems

MAX_DAYS = 31
DAY_S = 86_400.0
MAX_YEARS = 10
"""From now to a meeting, into the future or the past."""
RECONNECT_S = 120.0
"""Seconds for which a used invitation admits after its participant joined or left."""
MAX_FAULTS = 50
"""Faults of one request, after which the rest is not looked at."""
MAX_NAME = 50
"""Characters of the name of an unknown field that are repeated."""
MAX_DEPTH = 10
"""Objects and lists inside of each other."""
TAG_LENGTH = 250
"""Characters of a service tag, the limit of Infinity."""
READ_ONLY = ("state", "created", "updated", "etag", "invitations", "links")
"""Fields of an answer that a request may repeat, without effect."""

State = Literal["scheduled", "open", "running", "ended", "cancelled"]
ID = re.compile(r"(?!\.\.?$)[A-Za-z0-9._~-]{1,128}")
"""Neither ``.`` nor ``..``, which clients and proxies take out of a path."""
_DIGITS, _EMAIL = "of 4 to 20 digits", "an e-mail address of at most 100 characters"
_CODE = "text of at most 100 characters without & and blanks"
_TIME = "a time with an offset, such as 2030-06-01T10:00:00+02:00"
_IDS, _OBJECT = (
    "1 to 128 of A-Z a-z 0-9 . _ ~ -, and not . or ..",
    "an object of at most 100 fields",
)
Id = Annotated[str, Meta(pattern=f"^{ID.pattern}\\Z", description=_IDS)]
_SHOWN: dict[str, Any] = {"pattern": r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"}
Text = Annotated[str, Meta(max_length=250, extra_json_schema=_SHOWN)]
Minutes = Annotated[int, Meta(ge=0, le=180)]
MAX_LATE_S = 180 * 60.0
Pin = Annotated[str, Meta(pattern=r"^[0-9]{4,20}\Z", description=f"a PIN as text, {_DIGITS}")]
Email = Annotated[str, Meta(pattern=r"^[^@\s]+@[^@\s]+\Z", max_length=100, description=_EMAIL)]
CostCentre = Annotated[str, Meta(pattern=r"^[^&\s]*\Z", max_length=100, description=_CODE)]
Fields = Annotated[dict[str, Any], Meta(max_length=100, description=_OBJECT)]
AliasText = Annotated[str, Meta(min_length=1, max_length=250)]
_LIST = "a list of 1 to 10 aliases, each of at most 250 characters"
Aliases = Annotated[list[AliasText], Meta(min_length=1, max_length=10, description=_LIST)]
_FORMAT: Any = {"pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]", "description": _TIME}
Time = Annotated[str, Meta(**_FORMAT, extra_json_schema={"format": "date-time"})]
_UNSHOWN = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLACE = re.compile(r"`\$(\S*)`")


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with one field of a request."""

    pointer: str
    """A JSON pointer; empty for the whole."""
    message: str
    """Without what was sent, as that may be a PIN."""
    status: int = 422
    """403 for an alias that the tenant may not use."""


NO_OBJECT = Fault("", "must be a JSON object")


class _Common(msgspec.Struct, frozen=True, kw_only=True):
    title: Text = ""
    early_minutes: Minutes = 30
    """Minutes before the start from which people are admitted."""
    late_minutes: Minutes = 60
    """Minutes after the end until which people are admitted."""
    lobby: Literal["none", "host", "locked"] = "host"
    """`none`: all are hosts. `host`: guests wait for a host. `locked`: hosts admit each guest."""
    owner_email: Email | None = None
    cost_centre: CostCentre = ""
    """In the service tag."""
    participant_limit: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    private: bool = False
    """The title is not shown in the conference."""
    series: Id | None = None
    """A name of meetings that belong together, to list and to cancel by."""
    service: Fields = {}
    """Further fields of the conference, such as `ivr_theme_name`."""
    at_end: Literal["close", "disconnect"] = "close"


class MeetingBody(_Common, frozen=True, kw_only=True):
    """What a booking system sends for a meeting."""

    start: Time
    end: Time
    """At most 31 days after the start."""
    host_pin: Pin | None = None
    """Made, if left out."""
    guest_pin: Pin | None = None
    """Of the same length, and unequal. Made, if left out; none with `lobby` `none`."""
    aliases: Aliases | None = None
    """Made, if left out."""


class InvitationBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a booking system sends for an invitation of one person."""

    name: Text = ""
    role: Literal["host", "guest"] = "guest"
    uses: Annotated[int, Meta(ge=1, le=1000)] = 1


class Invitation(InvitationBody, frozen=True, kw_only=True):
    """An alias of its own for one person."""

    id: str
    alias: str
    used: int = 0
    """How many people were in the meeting by it, as events say."""
    spent_at: float | None = None
    """When a participant last joined or left with it."""
    people: tuple[str, ...] = ()
    """The last of them, by the ids that Infinity gave their calls."""

    def admits(self, now: float) -> bool:
        """Return whether a call is admitted: also for a while after the last use."""
        return self.used < self.uses or now < (self.spent_at or now) + RECONNECT_S


class Meeting(_Common, frozen=True, kw_only=True):
    """A meeting as it is stored. Times in seconds since 1970."""

    tenant: str
    id: str
    start: float
    end: float
    host_pin: str = ""
    guest_pin: str = ""
    aliases: tuple[str, ...] = ()
    """In their normal form; the user part of the first is the name of the service."""
    invitations: tuple[Invitation, ...] = ()
    ended_at: float | None = None
    """When it was ended before its time."""
    cancelled_at: float | None = None
    answer: dict[str, Any] | None = None
    """What calls get while the people who were in it at its last change are there: Infinity wants
    the same answer for a service that runs. Without PINs.
    """
    created: float = 0.0
    updated: float = 0.0
    etag: str = ""
    """Random, and another one after each change by a request; empty until it is stored."""
    version: str = ""
    """The same for each change, also by events."""

    @property
    def opens(self) -> float:
        """When people are admitted."""
        return self.start - 60 * self.early_minutes

    @property
    def closes(self) -> float:
        """When people are admitted no longer."""
        closes = self.end + 60 * self.late_minutes
        return closes if self.ended_at is None else min(self.ended_at, closes)

    @property
    def is_held(self) -> bool:
        """Whether its aliases are its own while it is open: not if it never opens."""
        return self.cancelled_at is None and self.closes > self.opens

    @property
    def name(self) -> str:
        """The name of the service, also in events."""
        return Alias(self.aliases[0]).user if self.aliases else ""

    def state(self, now: float, participants: int = 0) -> State:
        """Return the state; ``participants`` are those who are in it now."""
        if self.cancelled_at is not None:
            return "cancelled"
        if now >= self.closes:
            return "ended"
        if now < self.opens:
            return "scheduled"
        return "running" if participants else "open"

    def invitation(self, alias: str) -> Invitation | None:
        """Return the invitation with an alias, which may be bare."""
        return next((one for one in self.invitations if is_same(alias, one.alias)), None)

    def with_invitation(self, before: Invitation | None, after: Invitation | None) -> Meeting:
        """Return it with an invitation changed; ``None`` before one that is new, or after it."""
        known = [after if one is before else one for one in self.invitations]
        known += [after] * (before is None)
        return replace(self, invitations=tuple(one for one in known if one is not None))

    def has_alias(self, alias: str) -> bool:
        """Return whether an alias, which may be bare, leads to it."""
        return any(is_same(alias, one) for one in self.aliases)


def is_same(called: str, alias: str) -> bool:
    """Return whether a call to an alias means another one: any may be dialed by its user part."""
    return called == alias or alias.partition("@")[0] == called or called.partition("@")[0] == alias


def rfc3339(seconds: float) -> str:
    """Return a time as text, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---- from a request


def merge_patch(target: object, patch: object) -> Any:
    """Return what a JSON merge patch makes of a value (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def patched(meeting: Meeting, patch: object, tenant: TenantOf, now: float) -> Meeting | list[Fault]:
    """Return a meeting with the changes of a merge patch, or all that is wrong with them."""
    if not isinstance(patch, Mapping) or (faults := [*_unshown("", patch)][:MAX_FAULTS]):
        return faults if isinstance(patch, Mapping) else [NO_OBJECT]
    before = body_of(meeting)
    if patch.get("lobby") == "none":
        before.pop("guest_pin", None)
    return parsed(merge_patch(before, patch), tenant, now, meeting_id=meeting.id, base=meeting)


def parsed(
    body: object, tenant: TenantOf, now: float, *, meeting_id: str, base: Meeting | None = None
) -> Meeting | list[Fault]:
    """Return the meeting of a request, or all that is wrong with it.

    PINs and aliases that are left out are those of ``base``, the meeting that it replaces, else
    empty: the store makes them. So is what no request can set.
    """
    faults: list[Fault] = []
    if not ID.fullmatch(meeting_id):
        faults.append(Fault("/id", f"the id of a meeting must be {_IDS}"))
    if not isinstance(body, Mapping):
        return [*faults, NO_OBJECT]
    given = dict(body)
    if given.pop("id", meeting_id) != meeting_id:
        faults.append(Fault("/id", "is not the id in the path; POST makes one"))
    fields = typed(given, MeetingBody, faults)
    for name in ("start", "end"):
        if name in fields:
            fields[name] = read_time(f"/{name}", fields[name], faults)
    _check_times(fields, now, faults)
    fields["aliases"] = tuple(_aliases(fields.get("aliases") or (), tenant, faults))
    _check_pins(fields, tenant.infinity.min_pin_length, faults)
    if own := fields.get("service"):  # the defaults were checked
        for place, text in service_problems({**tenant.defaults, **own}, tenant.infinity):
            faults.append(Fault(pointer("service", *place), text))
    if faults:
        return faults
    kept = {} if base is None else _kept(fields, base)
    return Meeting(tenant=tenant.name, id=meeting_id, **{**fields, **kept})


def _kept(fields: Mapping[str, Any], base: Meeting) -> dict[str, Any]:
    """Return the fields that a meeting keeps when a request replaces it."""
    names = ["invitations", "answer", "created", "updated", "etag", "version"]
    if (base.start, base.end) == (fields["start"], fields["end"]):
        names.append("ended_at")
    if not fields["aliases"]:
        names.append("aliases")
    host, guest = fields.get("host_pin"), fields.get("guest_pin")
    if host is None and _fit(base.host_pin, guest):
        names.append("host_pin")
    if guest is None and fields.get("lobby") != "none" and _fit(base.guest_pin, host):
        names.append("guest_pin")
    return {name: getattr(base, name) for name in names}


def _fit(pin: str, other: str | None) -> bool:
    """Return whether two PINs can be those of one meeting; the second may be missing."""
    return not other or (len(pin) == len(other) and pin != other)


def parsed_invitation(body: object, base: Invitation) -> Invitation | list[Fault]:
    """Return an invitation with the fields of a request, or all that is wrong with them."""
    if not isinstance(body, Mapping):
        return [NO_OBJECT]
    faults: list[Fault] = []
    fields = typed(body, InvitationBody, faults)
    known = msgspec.structs.fields(InvitationBody)
    reset = {one.name: one.default for one in known if one.name in body}
    return faults or replace(base, **{**reset, **fields})


def typed(
    body: Mapping[str, Any], model: type[msgspec.Struct], faults: list[Fault]
) -> dict[str, Any]:
    """Return the fields of a request that have the right types, and add a fault for each other.

    A field that is null is left out.
    """
    hints = _hints(model)
    found: dict[str, Any] = {}
    for name, value in body.items():
        if len(faults) >= MAX_FAULTS:
            break
        if name not in hints:
            if name not in READ_ONLY:
                text = "there is no such field" + suggest(name[:MAX_NAME], hints)
                faults.append(Fault(pointer(name[:MAX_NAME]), text))
        elif unshown := list(_unshown(pointer(name), value)):
            faults += unshown[:MAX_FAULTS]
        elif value is not None:
            try:
                found[name] = msgspec.convert(value, hints[name])
            except msgspec.ValidationError as error:
                inner = _PLACE.search(str(error))
                steps = re.findall(r"\w+", inner[1]) if inner else []
                text = f"must be {wanted(hints[name]).removesuffix(' or null')}"
                faults.append(Fault(pointer(name, *steps), text))
    missing = (name for name in _required(model) if body.get(name) is None)
    faults += (Fault(pointer(name), "is missing") for name in missing)
    return found


@cache
def _required(model: type[msgspec.Struct]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(model) if field.required]


@cache
def _hints(model: type[msgspec.Struct]) -> dict[str, Any]:
    return get_type_hints(model, include_extras=True)


def pointer(*steps: str | int) -> str:
    """Return a JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def _unshown(at: str, value: object, depth: int = 0) -> Iterator[Fault]:
    """Yield a fault for each text in a value with a character that cannot be shown."""
    if depth > MAX_DEPTH:
        yield Fault(at, "has too many objects inside of each other")
    elif isinstance(value, str):
        if _UNSHOWN.search(value):
            yield Fault(at, "has a control character, or half of a character")
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _unshown(at + pointer(name), inner, depth + 1)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _unshown(at + pointer(number), inner, depth + 1)


def read_time(at: str, written: str, faults: list[Fault]) -> float | None:
    """Return a time in seconds since 1970, or add a fault; without an offset, as that of UTC."""
    try:
        found = datetime.fromisoformat(written.upper()).replace(microsecond=0)
        if found.tzinfo is None:
            faults.append(Fault(at, "has no offset to UTC: write Z, or such as +02:00, at its end"))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        faults.append(Fault(at, f"must be {_TIME}"))
        return None


def _check_times(fields: Mapping[str, Any], now: float, faults: list[Fault]) -> None:
    far = [
        Fault(f"/{name}", f"must be within {MAX_YEARS} years")
        for name in ("start", "end")
        if abs((fields.get(name) or now) - now) > MAX_YEARS * 366 * DAY_S
    ]
    faults += far
    start, end = fields.get("start"), fields.get("end")
    if not far and start is not None and end is not None:
        if end <= start:
            faults.append(Fault("/end", "is not after the start"))
        elif end - start > MAX_DAYS * DAY_S:
            faults.append(Fault("/end", f"is more than {MAX_DAYS} days after the start"))


def _check_pins(fields: Mapping[str, Any], least: int, faults: list[Fault]) -> None:
    users = {Alias(alias).user for alias in fields["aliases"]}
    for name in ("host_pin", "guest_pin"):
        if fields.get(name) and len(fields[name]) < least:
            text = f"must have at least {least} digits: infinity.min_pin_length"
            faults.append(Fault(pointer(name), text))
        if fields.get(name) in users:
            faults.append(Fault(pointer(name), "must not be an alias of the meeting"))
    host, guest = fields.get("host_pin"), fields.get("guest_pin")
    if guest and fields.get("lobby") == "none":
        text = "with lobby none all are hosts, who have the host PIN: leave it out"
        faults.append(Fault("/guest_pin", text))
    elif host and guest and not _fit(host, guest):
        faults.append(Fault("/guest_pin", "must be as long as the host PIN, and another one"))


def _aliases(written: Sequence[str], tenant: TenantOf, faults: list[Fault]) -> Iterator[str]:
    seen: set[str] = set()
    for number, text in enumerate(written):
        alias, at = Alias(text), pointer("aliases", number)
        if any(map(str.isspace, text)):
            faults.append(Fault(at, "has a blank"))
        elif why := why_never_called(alias):
            faults.append(Fault(at, f"{why}, so no call has it"))
        elif alias in seen:
            faults.append(Fault(at, "is there twice"))
        elif not tenant.may_use(alias):
            faults.append(Fault(at, "is not one of the aliases of this tenant", 403))
        else:
            seen.add(alias)
            yield str(alias)


# ---- for answers


def body_of(meeting: Meeting) -> dict[str, Any]:
    """Return the fields that a request has, as it may send them."""
    found: dict[str, Any] = {}
    for name in MeetingBody.__struct_fields__:
        value = getattr(meeting, name)
        if value is not None and value != "":
            found[name] = list(value) if isinstance(value, tuple) else value
    return {**found, "start": rfc3339(meeting.start), "end": rfc3339(meeting.end)}


def shown(
    meeting: Meeting, now: float, participants: int = 0, *, with_pins: bool = False
) -> dict[str, Any]:
    """Return a meeting as the API and people see it."""
    found = {"id": meeting.id, **body_of(meeting)}
    if not with_pins:
        found.pop("host_pin", None)
        found.pop("guest_pin", None)
    return {
        **found,
        "invitations": [shown_invitation(one) for one in meeting.invitations],
        "state": meeting.state(now, participants),
        "created": rfc3339(meeting.created),
        "updated": rfc3339(meeting.updated),
        "etag": meeting.etag,
    }


def shown_invitation(invitation: Invitation) -> dict[str, Any]:
    """Return an invitation as the API and people see it."""
    found: dict[str, Any] = msgspec.structs.asdict(invitation)
    del found["people"]
    spent = invitation.spent_at
    return {**found, "spent_at": None if spent is None else rfc3339(spent)}


def service_tag(meeting: Meeting, tenant: TenantOf) -> str:
    """Return the tag of the service, which comes back in events."""
    tag = f"{tenant.tag}&m={meeting.id}"
    return (f"{tag}&c={meeting.cost_centre}" if meeting.cost_centre else tag)[:TAG_LENGTH]


def service_of(meeting: Meeting, tenant: TenantOf) -> dict[str, Any]:
    """Return the fields of the conference, without PINs."""
    found: dict[str, Any] = {
        "name": meeting.name,
        "service_tag": service_tag(meeting, tenant),
        "service_type": "conference",
    }
    if meeting.title and not meeting.private:
        found["description"] = meeting.title
    if meeting.lobby != "none":
        found["allow_guests"] = True
    if meeting.lobby == "locked":
        found["locked"] = True
    if meeting.participant_limit is not None:
        found["participant_limit"] = meeting.participant_limit
    if meeting.owner_email is not None:
        found["primary_owner_email_address"] = meeting.owner_email
    return {**tenant.defaults, **meeting.service, **found}
