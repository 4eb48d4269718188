"""Secrets that can be told from everything else, and the search for those that got out.

Tests put them where a secret may stand. Behind each test, what it printed and each file that it
left behind are searched for them (``conftest``), so a leak fails the test that made it, whatever
that test was about.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pexpolicy import Conference, Credentials, Decision, Gateway, ParticipantProperties
from pexpolicy.endpoints import ENDPOINTS

PIN = "90731846205518"
"""Digits, for what may hold nothing else: PINs and dial tones."""
WORD = "canary-5e1f8b0c"
"""For everything else."""
TOKENS = (PIN, PIN[::-1], WORD)

SOURCES = (".toml", ".py", ".pyc", ".password", ".csv")
"""Files that tests write for the server to read; secrets belong there."""


def query(endpoint: str) -> str:
    """A query with a canary in each parameter that holds a secret, and in one that nobody knows."""
    known = ENDPOINTS[endpoint].request.parameters().values()
    names = [*(p.wire for p in known if p.secret), "new_in_a_later_version", "pin"]
    return "&".join(f"{name}={WORD}" for name in names)


def decisions() -> Iterator[tuple[str, Decision]]:
    """Decisions with a canary in each field that holds a secret, by endpoint."""
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


def found_in(text: str) -> list[str]:
    """The canaries in a text."""
    return [token for token in TOKENS if token in text]


def escaped(folder: Path) -> Iterable[str]:
    """What is wrong with the files that a test left: each that holds a canary."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.suffix not in SOURCES:
            content = path.read_bytes().decode("utf-8", "replace")
            if tokens := found_in(content):
                yield f"{path.name} holds {', '.join(tokens)}"
