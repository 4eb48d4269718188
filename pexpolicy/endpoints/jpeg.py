"""Pictures as Infinity takes them (transcribed): a JPEG in RGB of exactly the asked size."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 4_000_000
"""Pictures of more pixels than this are neither decoded nor made: one takes up to 100 MB."""
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")
"""What is read. Other formats of Pillow start programs or rest on libraries that need not see
this.
"""
QUALITY = 90
SEGMENTS = frozenset((0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE))
"""What stands before the first scan of a JPEG that every decoder reads: frames, tables, notes."""
MARKER, SCAN, END_OF_IMAGE = 0xFF, 0xDA, b"\xff\xd9"


class NoPictureError(ValueError):
    """Bytes that no picture can be made of."""


def jpeg(image: bytes, width: int | None, height: int | None) -> bytes:
    """The picture as a JPEG of this size in pixels, or of its own size where there is none.

    A JPEG that is right already is returned as it is. Others are turned as their camera says, put
    on white where they are transparent, and scaled and cut around their middle. Raises
    ``NoPictureError``.
    """
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - 40 ms of import, for avatars only

    try:
        with Image.open(io.BytesIO(image), formats=FORMATS) as picture:
            wanted = (width or picture.width, height or picture.height)
            for size in (picture.size, wanted):
                _refuse_large(*size)
            if _is_right(picture, wanted, image):
                picture.load()
                return image
            return _converted(picture, wanted)
    except NoPictureError:
        raise
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise NoPictureError(f"the bytes are no picture ({kinds}): {image[:16]!r}") from None
    except Exception as error:  # noqa: BLE001 - decoders raise errors of all kinds on broken input
        raise NoPictureError(f"the picture cannot be decoded: {error}") from None


def _refuse_large(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        size = f"{width} by {height} pixels"
        raise NoPictureError(f"a picture of {size} is too large: {MAX_PIXELS:,} are the limit")


def _is_right(picture: Image.Image, wanted: tuple[int, int], image: bytes) -> bool:
    return (
        picture.format == "JPEG"
        and picture.mode == "RGB"
        and picture.size == wanted
        and _is_whole(image)
    )


def _is_whole(image: bytes) -> bool:
    """True for known segments and nothing else up to the first scan, and an end behind it.

    Decoders pass over a great deal that does not belong there.
    """
    at = 2
    while at + 4 <= len(image) and image[at] == MARKER and image[at + 1] in SEGMENTS:
        at += 2 + int.from_bytes(image[at + 2 : at + 4])
    return image[at : at + 2] == bytes((MARKER, SCAN)) and image.endswith(END_OF_IMAGE)


def _converted(picture: Image.Image, wanted: tuple[int, int]) -> bytes:
    from PIL import ImageOps  # noqa: PLC0415 - as above

    out = io.BytesIO()
    upright = ImageOps.exif_transpose(picture)
    ImageOps.fit(_opaque(upright), wanted).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _opaque(picture: Image.Image) -> Image.Image:
    """The picture in RGB, on white where it is transparent."""
    from PIL import Image  # noqa: PLC0415 - as above

    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    ground = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(ground, layer).convert("RGB")
