"""Fuzz cases (bytes, and the replies that a server may send) and the samples they are made from."""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from tests.support.paths import ROOT

SAMPLES = ROOT / "tests" / "data" / "samples.jsonl"
USER, PASSWORD = "pexip", "only-for-the-fuzz"
CREDENTIALS = b"Authorization: Basic " + b64encode(f"{USER}:{PASSWORD}".encode()) + b"\r\n"
HOST = b"Host: policy.example.com\r\n"


@dataclass(frozen=True, slots=True)
class FuzzCase:
    """One request as it goes on the wire.

    `replies` is how many replies the bytes may bring. `clean` cases are well framed: they are
    pipelined and each brings one reply. Others end their connection; of those, `waits` tells that a
    server may rightly wait for more bytes. `asked` is the query string where the case is a policy
    request whose reply the contract's oracle can judge, under the name of its `endpoint`.
    """

    wire: bytes
    kind: str
    clean: bool = False
    waits: bool = False
    replies: int = 1
    bodyless: bool = False
    endpoint: str = ""
    asked: str = ""
    number: int = -1


@dataclass(frozen=True, slots=True)
class Dice:
    """What chance decides with, and the token that no reply may hold."""

    rng: Random
    token: bytes

    def form(self, forms: Sequence[bytes]) -> bytes:
        """Choose a form, and put the token where it has its place."""
        return self.rng.choice(forms).replace(b"%b", self.token)


class Sample(NamedTuple):
    """A recorded request: endpoint, path and the parameters, all as on the wire."""

    endpoint: str
    path: bytes
    parameters: list[bytes]


def read_samples() -> list[Sample]:
    """Read the recorded requests."""
    rows = map(json.loads, SAMPLES.read_text("utf-8").splitlines())
    return [
        Sample(row["endpoint"], row["path"].encode(), row["query"].encode().split(b"&"))
        for row in rows
    ]


def make_token(seed: int) -> bytes:
    """Sixteen digits that no reply may hold: digits survive every change of case and escaping."""
    return b"%016d" % Random(f"token {seed}").randrange(10**15, 10**16)


def request(
    target: bytes, method: bytes = b"GET", headers: bytes = b"", body: bytes = b""
) -> bytes:
    """Put a well-formed request together."""
    return b"%b %b HTTP/1.1\r\n%b%b%b\r\n%b" % (method, target, HOST, CREDENTIALS, headers, body)


CLOSING = request(b"/policy/v1/registrations?q=a&limit=1", headers=b"Connection: close\r\n")
