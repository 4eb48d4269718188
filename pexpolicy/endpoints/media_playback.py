"""The end of a playlist: disconnect or transfer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from pexpolicy.models.model import Model, Unset
from pexpolicy.models.rules import Confidence, Field, Rule, each


class Transfer(Model):
    """The service that the caller is transferred to after the playlist."""

    __slots__ = ()

    fields = {
        "conference": Field("alias of the service that the caller is transferred to"),
        "role": Field(
            "role in which the caller arrives",
            Confidence.DISPUTED,
            "oda: chair, guest; pexip-tf: auto, host, guest",
            "auto",
        ),
    }
    rules = each(
        Rule(
            "role",
            "auto and host are known to the management API only; chair and guest are documented",
            Confidence.DISPUTED,
            "oda; pexip-tf differs",
            lambda sent: sent.role in ("auto", "host"),
        ),
    )

    conference: Annotated[str, Meta(min_length=1, max_length=250)]
    role: Literal["chair", "guest", "auto", "host"] | Unset = UNSET


class OnCompletion(Model):
    """The action after a playlist: ``disconnect=True`` or ``transfer=Transfer(...)``."""

    __slots__ = ()

    fields = {
        "disconnect": Field("true ends the call"),
        "transfer": Field("the caller is transferred to another service"),
    }

    disconnect: bool | Unset = UNSET
    transfer: Transfer | Unset = UNSET


def is_no_completion(value: Any) -> bool:
    """Return true for anything but one of the two forms, as an object or as JSON text."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value, type=OnCompletion.wire)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return True
    ends, transfers = value.disconnect is not UNSET, value.transfer is not UNSET
    return ends == transfers or (ends and value.disconnect is not True)


RULES = each(
    Rule(
        "on_completion",
        'must be either {"disconnect": true} or {"transfer": {"conference": …, "role": …}}',
        Confidence.TRANSCRIBED,
        "oda",
        lambda sent: is_no_completion(sent.on_completion),
    ),
    Rule(
        "on_completion",
        "is JSON text, which the management API stores; an object is documented",
        Confidence.DISPUTED,
        "oda; oda-local, ps and pexip-tf have text",
        lambda sent: isinstance(sent.on_completion, str),
    ),
)
