"""The pages of the documentation site, collected from the repository into one folder."""

import os
import re
import shutil
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent
LINK = re.compile(
    r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]+)?\)"
)
CODE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)
ASSETS = ("*.svg", "*.png", "*.css", "*.js")


def sources(root: Path = ROOT) -> dict[Path, PurePosixPath]:
    """Return each file of the site, with its place in it."""
    docs = root / "docs"
    files = [path for kind in ("*.md", *ASSETS) for path in docs.rglob(kind)]
    places = {path: PurePosixPath(path.relative_to(docs)) for path in files}
    for readme in root.glob("*/*/README.md"):
        if readme.parent.parent.name == "plugins":
            places[readme] = PurePosixPath("shipped", f"{readme.parent.name}.md")
    for name in ("CHANGELOG.md", "SECURITY.md"):
        places[root / name] = PurePosixPath(name)
    places[root / "console" / "README.md"] = PurePosixPath("console.md")
    return places


def relocate(text: str, page: Path, places: dict[Path, PurePosixPath]) -> str:
    """Return a page whose links fit the site; those to files outside it become plain text."""

    def link(found: re.Match[str]) -> str:
        target = Path(os.path.normpath(page.parent / found["target"]))
        if target == ROOT / "README.md":
            target = ROOT / "docs" / "README.md"
        if target not in places:
            return found["text"]
        place = os.path.relpath(places[target], places[page].parent)
        return f"{found['image']}[{found['text']}]({place}{found['anchor'] or ''})"

    parts = CODE.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)


def write(folder: Path) -> None:
    """Write the pages into a folder, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    places = sources()
    for source, place in places.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            target.write_text(relocate(source.read_text("utf-8"), source, places), "utf-8")
        else:
            shutil.copyfile(source, target)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
