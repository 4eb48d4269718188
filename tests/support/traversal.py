"""Texts that lead out of a folder, or out of a path, where they become part of one."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

words = str.split
DOTS = (*words(".. . ... .... %2e%2e %252e%252e .%00. ..;"), "\N{TWO DOT LEADER}", "\uff0e\uff0e")
SEPARATORS = (
    *words(r"/ \ // /./ %2f %2F %5c %252f %c0%af :"),
    *("\u2215", "\u2044", "\uff0f", "\uff3c"),
)
TARGETS = tuple(
    words(r"anna etc/passwd anna.jpg host deeper/anna .secret link up/anna windows\win.ini")
)
PREFIXES = (
    "",
    *words(r"/ \ c: c:\ \\?\c:\ \\host\share\ file:/// ~/ ~root/ /proc/self/cwd/ /dev/fd/"),
)
SUFFIXES = (
    *("", "\0", "\0.jpg", " ", "\n", "\u202e", "\ud800"),
    *words("%00 %00.jpg . ::$DATA :stream ? # ;x /."),
)
NAMES = (
    *words("con nul aux prn com1 lpt1 con.jpg nul. CLOCK$"),
    *("a" * 300, "." * 300, "/" * 300),
)
FRAGMENTS = (
    *(*DOTS, *SEPARATORS, *TARGETS, *PREFIXES, *SUFFIXES, *NAMES),
    *("@", "sip:", "anna@", "@host"),
)
ATTACKS = (
    *(
        f"{prefix}{target}{suffix}"
        for prefix, target, suffix in itertools.product(PREFIXES, TARGETS, SUFFIXES)
    ),
    *(
        f"{dots}{separator}{target}"
        for dots, separator, target in itertools.product(DOTS, SEPARATORS, TARGETS)
    ),
    *NAMES,
)


def generated(count: int, seed: int = 1) -> Iterator[str]:
    """Yield the known texts, and random combinations of their parts."""
    yield from ATTACKS[:count]
    choose = random.Random(seed)
    for _ in range(count - len(ATTACKS)):
        yield "".join(choose.choices(FRAGMENTS, k=choose.randint(1, 8)))


INSIDE, OUTSIDE = b"inside", b"outside"


def surrounded(root: Path) -> Path:
    """Return a new folder with files, and with others around it and behind links."""
    folder = root / "photos" / "people"
    folder.mkdir(parents=True)
    for place in (root, folder.parent, folder):
        for name in ("anna.jpg", "etc.jpg", "passwd", "host.jpg", "anna.png", ".jpg", "..jpg"):
            (place / name).write_bytes(INSIDE if place == folder else OUTSIDE)
    (folder / "deeper").mkdir()
    (folder / "deeper" / "anna.jpg").write_bytes(OUTSIDE)
    (folder / ".secret.jpg").write_bytes(OUTSIDE)
    (folder / "link.jpg").symlink_to(root / "anna.jpg")
    (folder / "up.jpg").symlink_to("..")
    return folder
