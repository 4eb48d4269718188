"""Policy that the Python peers share, as a team with two rooms would write it.

Rooms by alias, a default room, one set of credentials, and a JSON line for each call through the
standard library's logging: the facts that our own audit line holds.
"""

import base64
import hmac
import json
import logging
import os
import time
import uuid
from collections.abc import Mapping

ROOMS = {
    "engineering": {"name": "Engineering Room", "service_tag": "engineering-room"},
    "sales": {"name": "Sales Room", "service_tag": "sales-room"},
}
SECRETS = frozenset(("third_party_passcode",))
PATH = "/policy/v1/service/configuration"


class JsonFormatter(logging.Formatter):
    """One line of JSON for each record."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": self.formatTime(record),
            "level": record.levelname,
            "event": record.getMessage(),
            **getattr(record, "call", {}),
        }
        return json.dumps(line)


def audit_log() -> logging.Logger:
    """The logger of the calls, to the file that PEER_AUDIT names."""
    logger = logging.getLogger("audit")
    if not logger.handlers:
        file = logging.FileHandler(os.environ["PEER_AUDIT"])
        file.setFormatter(JsonFormatter())
        logger.addHandler(file)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return logger


def local_part(alias: str) -> str:
    """``engineering`` of ``sip:Engineering@example.com``."""
    return alias.lower().removeprefix("sip:").partition("@")[0]


def decide(alias: str) -> dict[str, object]:
    """Return the reply for a dialled alias."""
    name = local_part(alias)
    room = ROOMS.get(name) or {"name": f"Default Room - {name}", "service_tag": "default-room"}
    return reply(room)


def reply(room: Mapping[str, str]) -> dict[str, object]:
    """Wrap a room in the envelope."""
    return {
        "status": "success",
        "action": "continue",
        "result": {"service_type": "conference", **room},
        "decision_id": str(uuid.uuid4()),
    }


def authorised(header: str | None) -> bool:
    """Return whether an Authorization header holds the user and the password."""
    if header is None or not header.startswith("Basic "):
        return False
    user, _, password = base64.b64decode(header[6:]).decode().partition(":")
    expected = os.environ["PEER_PASSWORD"]
    return hmac.compare_digest(user, "pexip") and hmac.compare_digest(password, expected)


def note(
    query: Mapping[str, str], answer: Mapping[str, object], peer: str | None, began: float
) -> None:
    """Log a call: the request, the decision and the reply."""
    call = {
        "decision_id": answer["decision_id"],
        "endpoint": "service_configuration",
        "peer": peer,
        "request": {name: value for name, value in query.items() if value and name not in SECRETS},
        "decided_by": "rooms",
        "action": answer["action"],
        "status": 200,
        "sent": answer["result"],
        "ms": round((time.perf_counter() - began) * 1000, 3),
    }
    audit_log().info("decision", extra={"call": call})
