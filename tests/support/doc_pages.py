"""Parser for documentation pages: code blocks, commands with output, tables, links."""

import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import ROOT

README = ROOT / "README.md"
DOCS = ROOT / "docs"
CONFIGURATION = DOCS / "configuration.md"
AUDIT_LINES = DOCS / "audit-lines.md"
FINDINGS = DOCS / "findings.md"
METRICS = DOCS / "metrics.md"
SETTINGS = DOCS / "settings.md"
DEPLOYMENT = DOCS / "deployment.md"
OPERATIONS = DOCS / "operations.md"
ACCESS = DOCS / "access.md"
OPERATOR_PAGES = [
    *(README, CONFIGURATION, DEPLOYMENT, OPERATIONS, ACCESS),
    *sorted(ROOT.glob("plugins/*/README.md")),
    *sorted(DOCS.glob("tasks/*.md")),
]
"""The pages for administrators and operators, whose examples are tested."""
ALL = sorted(
    {*OPERATOR_PAGES, *DOCS.glob("**/*.md"), ROOT / "SECURITY.md", *ROOT.glob("deploy/**/*.md")}
)
TABLES = {
    *("server", "auth", "access", "tls", "limits", "admin", "tracing"),
    *("audit", "infinity", "endpoints", "plugin_dirs", "plugins"),
}
PLUGINS = {"rooms", "domains", "rules", "locations", "upstream", "webhook", "avatars", "blocklist"}
"""The plugins of this repository, and the one in the README."""
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s#:]*)(?:#([^)\s]+))?\)")
_VOLATILE = [
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "an id"),
    (re.compile(r"\b([0-9a-f]{16}|[0-9a-f]{64})\b"), "a hash"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "a time"),
    (re.compile(r'(?<="ms":)[\d.]+'), "0"),
    (re.compile(r"(?<= )\d+\.\d\d(?=\s|$)", re.MULTILINE), "0"),
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r" $", re.MULTILINE), ""),
]
_IDLE = re.compile(r"^ (\S+) +available\b", re.MULTILINE)


class Example(NamedTuple):
    """A command on a page with its output."""

    page: Path
    command: str
    output: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.command}"


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the code blocks with their languages."""
    return _BLOCK.findall(page.read_text())


def block(page: Path, language: str) -> str:
    """Return the first code block in a language."""
    return next(text for found, text in blocks(page) if found == language)


def configurations(page: Path) -> list[str]:
    """Return complete configurations: TOML blocks with known tables and plugins only."""
    return [text for language, text in blocks(page) if language == "toml" and _whole(text)]


def _whole(text: str) -> bool:
    document = tomllib.loads(text)
    return document.keys() <= TABLES and document.get("plugins", {}).keys() <= PLUGINS


def examples(*programs: str) -> list[Example]:
    """Return the commands of these programs that are followed by their output."""
    return [
        Example(page, command, output)
        for page in OPERATOR_PAGES
        for (language, command), (next_language, output) in pairwise(blocks(page))
        if language == "sh" and next_language == "text" and command.startswith(programs)
    ]


def normalize(text: str) -> str:
    """Remove what differs between calls, idle plugins, and the width of tables."""
    for name in _IDLE.findall(text):
        text = re.sub(rf"^ {re.escape(name)} .*\n?", "", text, flags=re.MULTILINE)
    for pattern, replacement in _VOLATILE:
        text = pattern.sub(replacement, text)
    return text.strip()


def policy_hashes(text: str) -> list[str]:
    """Return the hashes that ``check`` prints at the end of a line."""
    return re.findall(r"; ([0-9a-f]{16})\)$", text, re.MULTILINE)


def rows(page: Path) -> Iterator[list[str]]:
    """Yield the cells of table rows whose first cell is code."""
    for line in page.read_text().splitlines():
        if line.startswith("| `"):
            cells = line.removeprefix("|").removesuffix("|").split("|")
            yield [cell.strip().replace("`", "") for cell in cells]


def links(page: Path) -> list[tuple[str, str]]:
    """Return the links within this repository, each with its anchor."""
    return _LINK.findall(_BLOCK.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
