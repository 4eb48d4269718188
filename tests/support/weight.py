"""The weight of the sources: lines, tokens and modules of each room; ``make weight`` prints it."""

from __future__ import annotations

import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
UNCOUNTED = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}
"""Tokens that are no weight: comments, line ends and indents."""
BETWEEN_NODE_AND_PLUGIN = ("server", "access", "chain", "audit", "observability", "log", "config")
DATA = {".css", ".html", ".j2", ".js", ".json", ".lua", ".svg", ".toml"}
"""Suffixes of the templates, scripts, styles and data files of a package."""


@dataclass(frozen=True, slots=True)
class Weight:
    """Sums over files: lines and tokens of Python, modules, lines of other files."""

    lines: int = 0
    tokens: int = 0
    modules: int = 0
    data: int = 0

    def __add__(self, other: Weight) -> Weight:
        return Weight(
            self.lines + other.lines,
            self.tokens + other.tokens,
            self.modules + other.modules,
            self.data + other.data,
        )


def tracked_files() -> list[PurePosixPath]:
    """Return the files that git tracks, relative to the root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    names = (PurePosixPath(name) for name in listed.split("\0") if name)
    return [name for name in names if (ROOT / name).is_file()]


def weight_of(name: PurePosixPath) -> Weight:
    """Return the weight of one file; zero if it is neither Python nor data of a package."""
    if name.suffix in DATA:
        return Weight(data=len((ROOT / name).read_text(encoding="utf-8").splitlines()))
    if name.suffix != ".py":
        return Weight()
    with (ROOT / name).open("rb") as file:
        tokens = sum(token.type not in UNCOUNTED for token in tokenize.tokenize(file.readline))
    lines = len((ROOT / name).read_text(encoding="utf-8").splitlines())
    return Weight(lines, tokens, 1)


def room_of(name: PurePosixPath) -> str | None:
    """Return the room of a file, such as ``pexpolicy/chain``; None outside of what is weighed."""
    parts = name.parts
    if parts[0] in {"tests", "lab"} or parts[1:2] == ("tests",) or parts[2:3] == ("tests",):
        if parts[0] in {"tests", "lab", "plugins", "console"}:
            return "tests"
        return None
    if parts[0] == "pexpolicy":
        return f"pexpolicy/{PurePosixPath(parts[1]).stem}"
    if parts[0] == "plugins" and parts[2:3] == ("src",):
        return f"plugins/{parts[1]}"
    if parts[:2] == ("console", "src"):
        return "console"
    return None


def weigh() -> dict[str, Weight]:
    """Return the weight of each room."""
    rooms: dict[str, Weight] = {}
    for name in tracked_files():
        room = room_of(name)
        if room is not None:
            rooms[room] = rooms.get(room, Weight()) + weight_of(name)
    return rooms


def totals(rooms: dict[str, Weight]) -> dict[str, Weight]:
    """Return the sums that have a ceiling."""

    def total(names: Iterable[str]) -> Weight:
        return sum((rooms[name] for name in names if name in rooms), Weight())

    return {
        "pexpolicy": total(name for name in rooms if name.startswith("pexpolicy/")),
        "between a node and a plugin": total(f"pexpolicy/{n}" for n in BETWEEN_NODE_AND_PLUGIN),
        "plugins": total(name for name in rooms if name.startswith("plugins/")),
        "console": total(["console"]),
        "tests": total(["tests"]),
    }


def _table() -> Iterator[str]:
    rooms = weigh()
    yield f"{'':32}{'lines':>8}{'tokens':>9}{'modules':>9}{'data':>7}"
    for name, weight in [*sorted(rooms.items()), *totals(rooms).items()]:
        yield f"{name:32}{weight.lines:8}{weight.tokens:9}{weight.modules:9}{weight.data:7}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(_table()) + "\n")
