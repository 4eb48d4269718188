"""What a faulty server is: a sound one with a fault at one endpoint."""

from dataclasses import dataclass
from typing import Any

from pexpolicy.conformance.findings import Topic
from tests.conformance.servers import (
    AVATAR,
    DIRECTORY,
    LOCATION,
    PARTICIPANT,
    REGISTRATION,
    SERVICE,
    Answer,
    Question,
    sound,
)

WEB, SIP, OLD, H323, DIAL_OUT, BREAKOUT, SEARCH, DEVICES, CODING, PATHS, VALUES = (
    "web join, v39",
    "SIP before the PIN, v39",
    "old node, v16",
    "H.323 call",
    "dial-out",
    "breakout",
    "directory",
    "registration",
    "odd encodings",
    "aliases in the path",
    "odd values",
)
FLOWS_OF = {
    SERVICE: (WEB,),
    PARTICIPANT: (WEB,),
    LOCATION: (SIP,),
    AVATAR: (WEB, H323, SEARCH),
    DIRECTORY: (SEARCH,),
    REGISTRATION: (DEVICES,),
}
"""Flows in which a fault at an endpoint shows, unless it says otherwise."""


@dataclass(frozen=True)
class Fault:
    name: str
    endpoint: str
    topic: Topic
    says: str
    """Part of what the conformance test must report."""
    answer: Answer
    flows: tuple[str, ...] = ()

    def __call__(self, question: Question) -> Any:
        return (self.answer if question.endpoint == self.endpoint else sound)(question)

    @property
    def played(self) -> tuple[str, ...]:
        return self.flows or FLOWS_OF[self.endpoint]
