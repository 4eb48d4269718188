"""The pages of the documentation, taken apart: blocks, commands with output, tables, links."""

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
DEPLOYMENT = DOCS / "deployment.md"
OPERATIONS = DOCS / "operations.md"
ACCESS = DOCS / "access.md"
WRITTEN = [
    *(README, CONFIGURATION, DEPLOYMENT, OPERATIONS, ACCESS),
    *sorted(ROOT.glob("plugins/*/README.md")),
]
"""The pages for administrators and operators: what they show is tried."""
ALL = sorted({*WRITTEN, *DOCS.glob("**/*.md"), ROOT / "SECURITY.md", *ROOT.glob("deploy/**/*.md")})
TABLES = {
    *("server", "auth", "access", "tls", "limits", "admin", "tracing"),
    *("audit", "infinity", "endpoints", "plugin_dirs", "plugins"),
}
PLUGINS = {"rooms", "domains", "rules", "locations", "upstream", "blocklist"}
"""Those of this repository, and the one that the README writes."""
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s#:]*)(?:#([^)\s]+))?\)")
_CHANGING = [
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
    """A command that a page shows with its output."""

    page: Path
    command: str
    output: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.command}"


def blocks(page: Path) -> list[tuple[str, str]]:
    """The blocks of code with their languages."""
    return _BLOCK.findall(page.read_text())


def block(page: Path, language: str) -> str:
    """The first block in a language."""
    return next(text for written, text in blocks(page) if written == language)


def configurations(page: Path) -> list[str]:
    """Whole configurations: the blocks of TOML with our tables and no plugins from elsewhere."""
    return [text for language, text in blocks(page) if language == "toml" and _whole(text)]


def _whole(text: str) -> bool:
    document = tomllib.loads(text)
    return document.keys() <= TABLES and document.get("plugins", {}).keys() <= PLUGINS


def examples(*programs: str) -> list[Example]:
    """The commands that begin so, wherever one stands before its output."""
    return [
        Example(page, command, output)
        for page in WRITTEN
        for (language, command), (next_language, output) in pairwise(blocks(page))
        if language == "sh" and next_language == "text" and command.startswith(programs)
    ]


def settled(text: str) -> str:
    """Text without what differs from call to call, idle plugins, and the width of tables."""
    for name in _IDLE.findall(text):
        text = re.sub(rf"^ {re.escape(name)} .*\n?", "", text, flags=re.MULTILINE)
    for pattern, instead in _CHANGING:
        text = pattern.sub(instead, text)
    return text.strip()


def config_hashes(text: str) -> list[str]:
    """What ``check`` shows of a configuration at the end of its line."""
    return re.findall(r"; ([0-9a-f]{16})\)$", text, re.MULTILINE)


def rows(page: Path) -> Iterator[list[str]]:
    """The rows of tables whose first cell is code, as plain cells."""
    for line in page.read_text().splitlines():
        if line.startswith("| `"):
            cells = line.removeprefix("|").removesuffix("|").split("|")
            yield [cell.strip().replace("`", "") for cell in cells]


def links(page: Path) -> list[tuple[str, str]]:
    """The links to places in this repository, each with its anchor."""
    return _LINK.findall(_BLOCK.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in a link."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
