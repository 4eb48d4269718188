"""The documentation site: each page has a place in its navigation, and each link a target."""

from pathlib import Path

import yaml

from docs import build_site
from tests.support import doc_pages
from tests.support.paths import ROOT

CONFIGURATION = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def _pages(entries: list[dict[str, object]]) -> list[str]:
    found: list[str] = []
    for entry in entries:
        for target in entry.values():
            found += _pages(target) if isinstance(target, list) else [str(target)]
    return found


def test_each_page_is_in_the_navigation_once_and_each_entry_is_a_page() -> None:
    pages = [str(place) for place in build_site.sources().values() if place.suffix == ".md"]
    assert sorted(_pages(CONFIGURATION["nav"])) == sorted(pages)


def test_links_fit_the_site(tmp_path: Path) -> None:
    build_site.write(tmp_path)
    broken = []
    for page in tmp_path.rglob("*.md"):
        for target, anchor in doc_pages.links(page):
            aim = page.parent / target if target else page
            if not aim.exists() or (anchor and anchor not in doc_pages.anchors(aim)):
                broken.append((page.name, target, anchor))
    assert broken == []
