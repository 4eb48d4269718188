"""The weight of the sources: lines, tokens and modules of each room; ``make weight`` prints it.

``make weight ARGS=--ceilings`` prints the tables of the rooms for ``tests/ceilings.toml``, each at
its weight with 5 % of air.
"""

from __future__ import annotations

import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parents[2]
CEILINGS = ROOT / "tests" / "ceilings.toml"
AIR = 1.05
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
DATA = {".css", ".html", ".j2", ".jinja", ".js", ".json", ".lua", ".svg", ".toml"}
"""Suffixes of the templates, scripts, styles and data files of a package."""


@dataclass(frozen=True, slots=True)
class Weight:
    """Sums over files: lines and tokens of Python, modules, lines of other files."""

    lines: int = 0
    tokens: int = 0
    modules: int = 0
    data: int = 0

    def __add__(self, other: Weight) -> Weight:
        return Weight(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def tracked_files() -> list[PurePosixPath]:
    """Return the files that git tracks, relative to the root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    names = (PurePosixPath(name) for name in listed.split("\0") if name)
    return [name for name in names if (ROOT / name).is_file()]


def weight_of(name: PurePosixPath) -> Weight:
    """Return the weight of one file; zero if it is neither Python nor data of a package."""
    if name.suffix not in {".py", *DATA}:
        return Weight()
    lines = len((ROOT / name).read_text(encoding="utf-8").splitlines())
    if name.suffix != ".py" or "template" in name.parts:
        return Weight(data=lines)
    with (ROOT / name).open("rb") as file:
        return Weight(lines, count_tokens(tokenize.tokenize(file.readline)), 1)


def count_tokens(tokens: Iterable[tokenize.TokenInfo]) -> int:
    """Return the number of tokens; an f-string is one, as it was before Python 3.12."""
    count = depth = 0
    for token in tokens:
        name = tokenize.tok_name[token.type]
        depth += name.endswith("STRING_START") - name.endswith("STRING_END")
        count += not depth and token.type not in UNCOUNTED
    return count


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
        room, weight = room_of(name), weight_of(name)
        if room is not None and weight != Weight():
            rooms[room] = rooms.get(room, Weight()) + weight
    return rooms


def totals(rooms: Mapping[str, Weight]) -> dict[str, Weight]:
    """Return the sums that have a ceiling."""

    def total(names: Iterable[str]) -> Weight:
        return sum((rooms[name] for name in names if name in rooms), Weight())

    return {
        "pexpolicy": total(name for name in rooms if name.startswith("pexpolicy/")),
        "between": total(f"pexpolicy/{n}" for n in BETWEEN_NODE_AND_PLUGIN),
        "plugins": total(name for name in rooms if name.startswith("plugins/")),
        "console": total(["console"]),
        "tests": total(["tests"]),
    }


def ceilings() -> dict[str, Any]:
    """Return the tables of the ceilings."""
    return tomllib.loads(CEILINGS.read_text(encoding="utf-8"))


def _table() -> Iterator[str]:
    rooms, limits = weigh(), ceilings()
    columns = ("lines", "tokens", "modules", "data")
    yield f"{'':24}" + "".join(f"{column:>18}" for column in columns)
    for kind, found in (("rooms", rooms), ("totals", totals(rooms))):
        for name, weight in sorted(found.items()):
            limit = limits[kind].get(name, {})
            cells = (f"{getattr(weight, c):,} / {limit.get(c, '-')}" for c in columns)
            yield f"{name:24}" + "".join(f"{cell:>18}" for cell in cells)


def _room_ceilings() -> Iterator[str]:
    for name, weight in sorted(weigh().items()):
        if name != "tests":
            lines, tokens = (int(number * AIR) for number in (weight.lines, weight.tokens))
            yield f'"{name}" = {{ lines = {lines}, tokens = {tokens} }}'


if __name__ == "__main__":
    printed = _room_ceilings() if "--ceilings" in sys.argv else _table()
    sys.stdout.write("\n".join(printed) + "\n")
