"""Replies of foreign servers: status, action and result in all combinations."""

import random
from dataclasses import dataclass
from typing import Any

ABSENT: Any = object()
FAILED = ("fail", "failed", "error", "SUCCESS", "success ", "no-match", "", None, 1, True, ABSENT)
ACTIONS: tuple[Any, ...] = (
    ABSENT,
    None,
    "continue",
    "reject",
    "redirect",
    "allow",
    "Reject",
    "",
    7,
    ["reject"],
    {},
)
NOTHING = ("absent", "null", "empty")
KINDS: dict[str, tuple[str, ...]] = {
    "service_configuration": (
        *NOTHING,
        "used",
        "text boolean",
        "invalid",
        "message",
        "shapeless",
        "falsy",
        "alias",
        "wrong alias",
    ),
    "participant_properties": (
        *NOTHING,
        "used",
        "text boolean",
        "invalid",
        "message",
        "reason",
        "reason and more",
        "shapeless",
        "falsy",
    ),
    "registration_alias": (*NOTHING, "used", "invalid", "message", "open", "shapeless", "falsy"),
    "media_location": (*NOTHING, "used", "invalid", "message", "shapeless", "falsy"),
    "directory_information": (*NOTHING, "used", "invalid", "ignoring", "shapeless", "falsy"),
}
"""What the result may be at each endpoint; each kind is one row of the contract."""


_WRITTEN: dict[str, tuple[Any, ...]] = {
    "absent": (ABSENT,),
    "null": (None,),
    "falsy": ("", 0, False),
    "message": ({"message": "no"},),
    "open": ({"username": "", "password": ""},),
    "alias": ({"new_alias": "sip:a@example.com"}, {"new_alias": "tel:+4712345678"}),
    "wrong alias": tuple(
        {"new_alias": alias}
        for alias in ("a@b.example", "", 7, None, "sip:a\r\nb", "sip:a b", "sip:" + "a" * 250)
    ),
    "reason": tuple({"reject_reason": text} for text in ("closed", "", "no" * 200, 7, None)),
    "reason and more": ({"reject_reason": "closed", "remote_display_name": "X"},),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One reply; ``meant`` is its result, with booleans as booleans."""

    endpoint: str
    succeeds: bool
    action: Any
    kind: str
    body: dict[str, Any]
    meant: Any


def sample(rng: random.Random) -> Sample:
    """One reply of one endpoint."""
    endpoint = rng.choice(tuple(KINDS))
    kind = rng.choice(KINDS[endpoint])
    succeeds = rng.random() < 0.5
    action = rng.choice(ACTIONS)
    body: dict[str, Any] = {"x-extra": rng.choice((None, "text", 1))}
    status = "success" if succeeds else rng.choice(FAILED)
    result, meant = _result(rng, endpoint, kind)
    if kind == "ignoring":
        body["ignore_local"] = True
    written = {"status": status, "action": action, "result": result}
    body |= {name: value for name, value in written.items() if value is not ABSENT}
    return Sample(endpoint, succeeds, action, kind, body, meant)


def _result(rng: random.Random, endpoint: str, kind: str) -> tuple[Any, Any]:
    """The result as it is written, and as it is meant."""
    if kind in _WRITTEN:
        return rng.choice(_WRITTEN[kind]), None
    if kind in ("empty", "ignoring"):
        return rng.choice(({}, [])) if endpoint == "directory_information" else {}, None
    if kind == "shapeless":
        return rng.choice(("text", 7, True, 1.5, _other_shape(endpoint))), None
    made = _USED[endpoint](rng)
    if kind == "invalid":
        _spoil(rng, endpoint, made)
    elif kind == "text boolean":
        return _as_text(rng, made)
    return made, made


def _other_shape(endpoint: str) -> Any:
    return {"entries": []} if endpoint == "directory_information" else ["Room"]


def _service(rng: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {"name": "Room", "service_type": "conference", "service_tag": "t"}
    more: dict[str, Any] = {
        "service_type": rng.choice(("conference", "lecture")),
        "pin": "1234",
        "locked": rng.choice((True, False)),
        "automatic_participants": [
            {
                "local_alias": "a",
                "remote_alias": "b",
                "protocol": "sip",
                "role": "guest",
                "streaming": True,
            }
        ],
        "x_unknown": "kept",
    }
    return made | {name: value for name, value in more.items() if rng.random() < 0.5}


def _participant(rng: random.Random) -> dict[str, Any]:
    more: dict[str, Any] = {
        "preauthenticated_role": rng.choice(("chair", "guest", None)),
        "remote_display_name": "X",
        "send_to_audio_mixes": [{"mix_name": "main", "prominent": True}],
        "x_unknown": "kept",
    }
    made: dict[str, Any] = {"bypass_lock": rng.choice((True, False))}
    return made | {name: value for name, value in more.items() if rng.random() < 0.5}


def _entries(rng: random.Random) -> list[dict[str, str]]:
    count = rng.randint(1, 3)
    return [{"alias": f"a{n}", "description": f"d{n}", "username": ""} for n in range(count)]


_USED: dict[str, Any] = {
    "service_configuration": _service,
    "participant_properties": _participant,
    "registration_alias": lambda _: {"username": "device", "password": "proof"},
    "media_location": lambda _: {"location": "Oslo", "overflow_locations": ["Bergen"]},
    "directory_information": _entries,
}
SPOILT: dict[str, dict[str, tuple[Any, ...]]] = {
    "service_configuration": {
        "service_type": ("vmr", None, 7),
        "name": ("", 7, "x" * 251),
        "pin": ("12", 1234, "12a4"),
        "locked": ("yes", 1),
        "participant_limit": ("ten", -1),
    },
    "participant_properties": {
        "preauthenticated_role": ("host", 7),
        "bypass_lock": ("yes", 0),
        "display_count": ("two",),
    },
    "registration_alias": {"username": (7, None), "password": (7, None)},
    "media_location": {"location": ("", 7, None), "overflow_locations": ("Oslo", [""])},
}


def _spoil(rng: random.Random, endpoint: str, made: Any) -> None:
    """Break one field of a result."""
    if isinstance(made, list):
        made[0]["alias"] = rng.choice((7, None, "x" * 251))
        return
    name, values = rng.choice(tuple(SPOILT[endpoint].items()))
    made[name] = rng.choice(values)


def _as_text(rng: random.Random, made: dict[str, Any]) -> tuple[Any, Any]:
    """The same with one boolean at least as text, perhaps a number as text and a field of null, and
    as it is meant.
    """
    is_service = "service_type" in made
    name = "locked" if is_service else "bypass_lock"
    number = "participant_limit" if is_service else "display_count"
    made.setdefault(name, True)
    if rng.random() < 0.5:
        made[number] = 7
    written = dict(made)
    if number in made:
        written[number] = "7"
    if rng.random() < 0.5:
        written["enable_chat" if is_service else "call_tag"] = None
    for key, value in made.items():
        if isinstance(value, bool):
            written[key] = rng.choice((str(value), str(value).lower()))
        elif isinstance(value, list) and rng.random() < 0.5:
            written[key] = [
                {k: str(v) if isinstance(v, bool) else v for k, v in item.items()} for item in value
            ]
    return written, made
