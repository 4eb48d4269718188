"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "skipped", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the list: a subject, its state, what was seen, and what to do."""

    subject: str
    state: State
    text: str
    advice: str = ""
