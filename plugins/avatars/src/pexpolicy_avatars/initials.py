"""Initials on a colour, for people without a picture."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

from pexpolicy import Alias, Avatar, Problem, SettingsError
from pexpolicy.files import track_file
from pexpolicy_avatars.settings import InitialsSettings

SIDE = 100
"""Pixels of a side that the request does not have."""
MAX_SIDE = 2048
HEIGHT = 0.42
"""Height of the letters, as a part of the shorter side."""
REASON = "initials"
_WORDS = re.compile(r"[^\W\d_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W\d_]+)*")
_MISSING = "\U0010fffd"
"""A character that no font has."""


class Initials:
    """Draws initials; raises ``SettingsError`` for a font or colour that cannot be used."""

    def __init__(self, settings: InitialsSettings) -> None:
        from PIL import ImageColor  # noqa: PLC0415 - 40 ms of import

        problems = []
        self._colors: list[tuple[int, ...]] = []
        for number, color in enumerate(settings.colors):
            try:
                self._colors.append(ImageColor.getrgb(color)[:3])
            except ValueError:
                text = f"{color!r} is no colour: write one such as #1f6feb"
                problems.append(Problem(("colors", number), text))
        self._font: bytes | None = None
        if settings.font is not None:
            track_file(settings.font)
            try:
                self._font = _checked_font(settings.font)
            except OSError as error:
                text = f"{settings.font} cannot be used: {error.strerror or error}"
                problems.append(Problem(("font",), text))
        if problems:
            raise SettingsError(problems=problems)

    def letters(self, name: str | None, alias: Alias) -> str:
        """Return the initials of a display name, or else of an alias: two letters at most.

        Empty without a letter, as for a telephone number.
        """
        words = _WORDS.findall(name or "") or _WORDS.findall(alias.user)
        return "".join(word[0] for word in _outer(words)).upper()

    def color(self, alias: Alias) -> tuple[int, ...]:
        """Return the colour of an alias, always the same one."""
        return self._colors[crc32(alias.encode(errors="replace")) % len(self._colors)]

    def draw(
        self, letters: str, color: tuple[int, ...], width: int | None, height: int | None
    ) -> Avatar | None:
        """Return a picture of this size in pixels, ``None`` if the font lacks a letter."""
        from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - 40 ms of import

        size = (width or SIDE, height or SIDE)
        if not all(0 < side <= MAX_SIDE for side in size):
            return None
        points = max(1, round(min(size) * HEIGHT))
        font: ImageFont.FreeTypeFont | ImageFont.ImageFont
        if self._font is None:
            font = ImageFont.load_default(points)
            # Pillow's own font has letters without accents only.
            letters = unicodedata.normalize("NFKD", letters)
            letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
        else:
            font = ImageFont.truetype(io.BytesIO(self._font), points)
        missing = bytes(font.getmask(_MISSING))
        if not letters or any(bytes(font.getmask(letter)) == missing for letter in letters):
            return None
        image = Image.new("RGB", size, color)
        draw = ImageDraw.Draw(image)
        draw.text((size[0] / 2, size[1] / 2), letters, _contrast(color), font, anchor="mm")
        out = io.BytesIO()
        image.save(out, "JPEG", quality=90)
        return Avatar(out.getvalue(), reason=REASON).resized(width or SIDE, height or SIDE)


def _outer(words: Sequence[str]) -> Sequence[str]:
    """Return the first and the last word."""
    return words if len(words) < 2 else (words[0], words[-1])  # noqa: PLR2004 - first and last


def _contrast(color: Sequence[int]) -> str:
    """Return black or white, whichever is easier to read on a colour."""
    red, green, blue = color
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 160 else "white"  # noqa: PLR2004


def _checked_font(path: Path) -> bytes:
    from PIL import ImageFont  # noqa: PLC0415 - 40 ms of import

    content = path.read_bytes()
    ImageFont.truetype(io.BytesIO(content), 10)
    return content
