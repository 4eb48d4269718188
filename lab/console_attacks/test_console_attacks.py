"""Each kind of attack on the console finds nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.console_attacks import markup, requests, secrets
from lab.console_attacks.count import Count

SHORT: dict[str, Callable[[Path], Iterator[Count]]] = {
    "texts of calls become no markup": lambda folder: markup.attack(folder, 60, 12),
    "requests of no user do nothing": lambda folder: requests.attack(folder, 120, 60),
    "no page and no file holds a secret": lambda folder: secrets.attack(folder / "secrets"),
}


@pytest.mark.parametrize("kind", SHORT)
def test_attacks_find_nothing(kind: str, tmp_path: Path) -> None:
    for count in SHORT[kind](tmp_path):
        assert count.tried, str(count)
        assert not count.found, str(count)
