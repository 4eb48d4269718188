"""Code samples of the pages for plugin authors, extracted to be run."""

import linecache
import re
import sys
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.support.paths import ROOT

FOLDER = ROOT / "docs" / "plugins"
PAGES = sorted(path.name for path in FOLDER.glob("*.md") if path.name != "api.md")
_PART = re.compile(
    r"^## (?P<heading>[^\n]*)$|^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_FILE = re.compile(r"# (\S+\.(?:py|toml))\n")

Test = TypeVar("Test", bound=Callable[..., Any])
covered: set[tuple[str, str]] = set()
"""Pages and headings whose code is tested; the heading ``*`` is the whole page."""


@dataclass(frozen=True)
class Block:
    """One code block and its heading."""

    heading: str
    language: str
    text: str

    @property
    def file(self) -> str:
        """Return the file name in the first line of the block, or an empty string."""
        named = _FILE.match(self.text)
        return named[1] if named else ""


@dataclass(frozen=True)
class Section:
    """The content of one section: the names that its code defines, and its configuration."""

    names: Mapping[str, Any]
    config: Mapping[str, Any]
    blocks: list[Block]

    def plugin(self, name: str) -> Any:
        """Return the class with this name, by its name in a configuration."""
        return {name.lower(): self.names[name]}

    def shown(self, language: str) -> str:
        """Return the first block in a language."""
        return next(block.text for block in self.blocks if block.language == language)


def blocks(page: str) -> Iterator[Block]:
    """Yield every block of a page, in order."""
    heading = ""
    for part in _PART.finditer((FOLDER / page).read_text()):
        if part["heading"] is not None:
            heading = part["heading"]
        else:
            yield Block(heading, part["language"], part["text"])


def section(page: str, heading: str) -> Section:
    """Run the files of one section, and parse its configuration."""
    found = [block for block in blocks(page) if block.heading == heading]
    assert found, f"{page} has no code below {heading!r}"
    names: dict[str, Any] = {}
    config: dict[str, Any] = {}
    for block in found:
        if block.file.endswith(".py"):
            names |= _run(block, page)
        elif block.file.endswith("config.toml"):
            config |= tomllib.loads(block.text)
    return Section(names, config, found)


def _run(block: Block, page: str) -> dict[str, Any]:
    # The module has to be importable, because pydantic resolves annotations in it.
    module = types.ModuleType(f"sample_{block.file.removesuffix('.py').replace('/', '_')}")
    sys.modules[module.__name__] = module
    module.__file__ = f"{page}: {block.file}"
    # As a file has it: the check of hooks reads the source of a class.
    linecache.cache[module.__file__] = 0, None, block.text.splitlines(keepends=True), ""
    exec(compile(block.text, module.__file__, "exec"), vars(module))  # noqa: S102 - our own page
    return vars(module)


def covers(page: str, heading: str = "*") -> Callable[[Test], Test]:
    """Mark a test that runs the code of a section."""

    def mark(test: Test) -> Test:
        covered.add((page, heading))
        return test

    return mark
