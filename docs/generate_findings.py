"""The generator of findings.md: the levels and topics of the conformance test."""

from __future__ import annotations

import enum
from pathlib import Path

from docs.generate_settings import table
from pexpolicy.conformance.findings import Level, Topic
from pexpolicy.models.attribute_docs import attribute_docs

LEVELS = """# Findings

What the [conformance test](conformance.md) reports, from its code. A 404 to some requests, and
`continue` without a result, are no findings.

## Levels

"""
TOPICS = """
## Topics

"""


def page() -> str:
    """Return the whole page."""
    return (
        f"{LEVELS}{table(('level', 'meaning'), _rows(Level))}"
        f"{TOPICS}{table(('topic', 'what is wrong'), _rows(Topic))}"
    )


def _rows(words: type[enum.StrEnum]) -> list[tuple[str, str]]:
    docs = attribute_docs(words)
    return [(f"`{word}`", docs[word.name].replace("``", "`")) for word in words]


if __name__ == "__main__":
    (Path(__file__).parent / "findings.md").write_text(page(), encoding="utf-8")
