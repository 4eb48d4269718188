"""Secret canaries, and the search for leaked ones.

Tests use them as secrets. After each test, its output and its files are searched for them
(``conftest``), so a leak fails the test that caused it, whatever its subject.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from pexpolicy import Conference, Credentials, Decision, Gateway, ParticipantProperties
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.request import parameters_of

PIN = "90731846205518"
"""Digits only, for PINs and dial tones."""
WORD = "canary-5e1f8b0c"
"""For all other secrets."""
TOKENS = (PIN, PIN[::-1], WORD)

SOURCES = (".toml", ".py", ".pyc", ".password", ".csv")
"""Files that tests write for the server to read, which may contain secrets."""


def query(endpoint: str) -> str:
    """Return a query with a canary in each secret parameter, and in an unknown one."""
    known = parameters_of(ENDPOINTS[endpoint].request).values()
    names = [*(p.wire for p in known if p.secret), "new_in_a_later_version", "pin"]
    return "&".join(f"{name}={WORD}" for name in names)


def decisions() -> Iterator[tuple[str, Decision]]:
    """Yield decisions with a canary in each secret field, by endpoint."""
    room = {"name": "Room", "service_tag": "room"}
    called = {"local_alias": "a@example.com", "remote_alias": "b@example.com", "role": "guest"}
    yield (
        "service_configuration",
        Conference.from_result(
            {
                **room,
                "pin": PIN,
                "guest_pin": PIN[::-1],
                "allow_guests": True,
                "automatic_participants": [
                    {
                        **called,
                        "protocol": "rtmp",
                        "dtmf_sequence": PIN,
                        "presentation_url": f"rtmps://example.com/{WORD}",
                    }
                ],
                "new_in_a_later_version": WORD,
            }
        ),
    )
    yield (
        "service_configuration",
        Gateway(
            name="Gateway",
            service_tag="",
            local_alias="a@example.com",
            remote_alias="b@example.com",
            outgoing_protocol="sip",
            dtmf_sequence=PIN,
        ),
    )
    yield "registration_alias", Credentials(username="alice", password=WORD)
    yield "participant_properties", ParticipantProperties(private_custom_properties={"k": WORD})


def find_canaries(text: str) -> list[str]:
    """Return the canaries in a text."""
    return [token for token in TOKENS if token in text]


def find_leaks(folder: Path) -> Iterable[str]:
    """Yield a description of each file of a test that contains a canary."""
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with suppress(FileNotFoundError):  # a server that is being killed removes its files
                mode = path.lstat().st_mode
                # The last good files are copies of sources, for their owner only.
                is_kept = path.parent.match("state/objects") and stat.S_IMODE(mode) == 0o600
                if stat.S_ISREG(mode) and path.suffix not in SOURCES and not is_kept:
                    content = path.read_bytes().decode("utf-8", "replace")
                    if tokens := find_canaries(content):
                        yield f"{path.name} contains {', '.join(tokens)}"
