"""Forged ``Forwarded`` headers in front of what a trusted proxy appends.

``python -m lab.forwarded_headers [COUNT [SEED]]`` generates 30,000 headers, and fails
if one of them makes a client pass for another one.
"""

import random
from dataclasses import dataclass, field

from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from pexpolicy.access.forwarded import ForwardedHeaders
from pexpolicy.access.networks import Networks

PROXY = "10.0.0.1"
FORGED = "for=192.0.2.1"
PIECES = [
    FORGED,
    "for",
    "by",
    "=",
    "1.2.3.4",
    '"',
    ",",
    ";",
    " ",
    "\\",
    "[",
    "::1",
    "]",
    ":80",
    "x",
]
ENDINGS = ["", ';x="', ';x="\\', ',x="', ', "', "\\", ';x="a\\\\', "=", '=";']
APPENDED = {
    "for=198.51.100.7": "198.51.100.7",
    'for="198.51.100.7"': "198.51.100.7",
    'for="[2001:db9::7]:47"': "2001:db9::7",
    "for=198.51.100.7;proto=https": "198.51.100.7",
    'proto=https;for="198.51.100.7:80"': "198.51.100.7",
    'by="[2001:db9::1]";host="a.example:443";for="[2001:db9::7]"': "2001:db9::7",
    'for=198.51.100.7;host=";y=\\\\";by="_b"': "198.51.100.7",
    'for=198.51.100.7;host="\\", for=192.0.2.1;x=\\""': "198.51.100.7",
}


@dataclass(slots=True)
class Tally:
    """How often the true client was found, the header was refused, and which ones were wrong."""

    right: int = 0
    refused: int = 0
    wrong: list[list[str]] = field(default_factory=list)


def run(count: int, seed: int) -> Tally:
    """Generate headers from a seed and read each."""
    dice = random.Random(seed)
    headers = ForwardedHeaders(Networks(["10.0.0.0/8"]), "Forwarded")
    tally = Tally()
    for _ in range(count):
        forged = dice.choice(["", FORGED]) + "".join(dice.choices(PIECES, k=dice.randrange(8)))
        forged += dice.choice(ENDINGS)
        appended, client = dice.choice([*APPENDED.items()])
        lines = dice.choice([[f"{forged}, {appended}"], [forged, appended]])
        request = make_mocked_request(
            "GET", "/", headers=CIMultiDict([("Forwarded", line) for line in lines])
        )
        found = headers.client(PROXY, request)
        if found == client:
            tally.right += 1
        elif found is None:
            tally.refused += 1
        else:
            tally.wrong.append(lines)
    return tally
