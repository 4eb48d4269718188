"""The check of directory entries: complete, sorted, no more than the request allows."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from pexpolicy.conformance.findings import Finding, SentRequest, Topic, violation, warning
from pexpolicy.endpoints.directory_information import DirectoryEntry
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.rules import Confidence

KEYS = ("alias", "description", "username")
MAX_FINDINGS = 5
"""Maximum number of findings about one list."""


def judge_directory(asked: SentRequest, body: Mapping[str, Any]) -> list[Finding]:
    """Return the findings about the entries of a reply and about ``ignore_local``."""
    entries = body.get("result", [])
    findings: list[Finding] = []
    if entries == {}:
        text = "the result of a search is a list, and this is {}"
        findings.append(warning(Topic.RESULT, text, Confidence.TRANSCRIBED))
        entries = []
    if "ignore_local" in body and not isinstance(body["ignore_local"], bool):
        findings.append(
            violation(
                Topic.DIRECTORY, "ignore_local is neither true nor false", Confidence.TRANSCRIBED
            )
        )
    for number, entry in enumerate(entries):
        findings += _entry(number, entry)
        if len(findings) >= MAX_FINDINGS:
            return findings
    findings += _length(asked, entries)
    sound = not any(finding.level.fails for finding in findings)
    if sound and not any(_sorted(entries, key) for key in KEYS):
        text = "the entries are not sorted by any of their keys"
        findings.append(violation(Topic.DIRECTORY, text, Confidence.TRANSCRIBED))
    return findings


def _entry(number: int, entry: Any) -> list[Finding]:
    if not isinstance(entry, dict):
        return [
            violation(Topic.DIRECTORY, f"entry {number} is not an object", Confidence.TRANSCRIBED)
        ]
    missing = [key for key in KEYS if key not in entry]
    if missing:
        text = f"entry {number} has no {' and no '.join(missing)}; all three keys must be there"
        return [violation(Topic.DIRECTORY, text, Confidence.TRANSCRIBED)]
    try:
        warnings = DirectoryEntry.from_result(entry).warnings
    except DecisionError as error:
        return [violation(Topic.DIRECTORY, f"entry {number}: {error}", Confidence.TRANSCRIBED)]
    return [warning(Topic.DIRECTORY, f"entry {number}: {text}") for text in warnings]


def _length(asked: SentRequest, entries: list[Any]) -> list[Finding]:
    limit = asked.get("limit")
    if not limit or len(entries) <= int(limit):
        return []
    text = f"{len(entries)} entries, and the limit is {limit}"
    return [violation(Topic.DIRECTORY, text, Confidence.TRANSCRIBED)]


def _sorted(entries: list[dict[str, str]], key: str) -> bool:
    """Return True if the entries are sorted by this key, in one of the usual collations."""
    values = [entry[key] for entry in entries]
    return any(values == sorted(values, key=order) for order in (str, str.casefold, _unaccented))


def _unaccented(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in folded if c.isalnum())
