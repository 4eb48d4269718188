"""What a request showed when it was admitted, so that the next one on its connection is cheap."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Admission:
    """An admitted request: by which gate, with which headers, and whom it came from.

    ``forwarded`` is unset for a connection that is not from a named proxy.
    """

    gate: object
    authorization: bytes
    forwarded: str | None
    peer: str
