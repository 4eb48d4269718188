"""Conversion of pictures to a JPEG in RGB of exactly the requested size (transcribed)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 4_000_000
"""Limit for decoding and encoding: such a picture takes up to 100 MB."""
MAX_JPEG_PIXELS = 4 * MAX_PIXELS
"""Limit for a JPEG, such as a photo of a phone: it can be decoded at a half or less of its size."""
MAX_SCANS = 64
"""Limit for the passes of a progressive JPEG, of which encoders write some ten. One of 14 bytes
takes the time of all pixels.
"""
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")
"""The accepted formats. Others of Pillow start programs, or use libraries that must not read
untrusted input.
"""
QUALITY = 90
SEGMENTS = frozenset((0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD, 0xE0, *range(0xE2, 0xF0), 0xFE))
"""Segments before the first scan of a JPEG that every decoder reads: frames, tables, comments. Not
0xE1, which has the EXIF and XMP data: an orientation, and where a picture was taken.
"""
ORIENTATION = 0x0112
"""The tag of EXIF data that says how a picture is turned."""
JPEGS = ("JPEG", "MPO")
"""Pillow's names for a JPEG, and for one with further pictures after it, as some phones make."""
MARKER, SCAN, END_OF_IMAGE = 0xFF, 0xDA, b"\xff\xd9"


class InvalidImageError(ValueError):
    """The bytes are not a picture that can be converted."""


def jpeg(image: bytes, width: int | None, height: int | None) -> bytes:
    """Return a picture as a JPEG of this size in pixels, ``None`` for its own width or height.

    A conforming JPEG without EXIF data is returned unchanged. Others are rotated by their EXIF
    orientation, put on white where they are transparent, scaled, and cropped around their centre.
    Raise ``InvalidImageError``.
    """
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - 40 ms of import, for avatars only

    try:
        with Image.open(io.BytesIO(image), formats=FORMATS) as picture:
            own = picture.size[::-1] if _is_turned(picture) else picture.size
            wanted = (width or own[0], height or own[1])
            is_jpeg = picture.format in JPEGS
            if is_jpeg:
                _check_scans(image)
            is_reduced = is_jpeg and MAX_PIXELS < _pixels(picture.size) <= MAX_JPEG_PIXELS
            if is_reduced:
                # Square, as the picture may have to be rotated.
                picture.draft("RGB", (max(wanted), max(wanted)))
            for size in (picture.size, wanted):
                _check_size(size)
            if not is_reduced and _is_conforming(picture, wanted, image):
                picture.load()
                return image
            return _converted(picture, wanted)
    except InvalidImageError:
        raise
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise InvalidImageError(f"the bytes are not a picture ({kinds}): {image[:16]!r}") from None
    except Exception as error:  # noqa: BLE001 - decoders raise errors of all kinds on broken input
        raise InvalidImageError(f"the picture cannot be decoded: {error}") from None


def _is_turned(picture: Image.Image) -> bool:
    """Return whether the EXIF orientation exchanges width and height."""
    return picture.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)


def _pixels(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _check_size(size: tuple[int, int]) -> None:
    if _pixels(size) > MAX_PIXELS:
        text = f"a picture of {size[0]} by {size[1]} pixels"
        raise InvalidImageError(f"{text} is too large: {MAX_PIXELS:,} are the limit")


def _check_scans(image: bytes) -> None:
    if image.count(bytes((MARKER, SCAN))) > MAX_SCANS:
        text = f"the picture has more than {MAX_SCANS} scans"
        raise InvalidImageError(f"{text}: save it without progression")


def _is_conforming(picture: Image.Image, wanted: tuple[int, int], image: bytes) -> bool:
    return (
        picture.format == "JPEG"
        and picture.mode == "RGB"
        and picture.size == wanted
        and _has_known_segments(image)
    )


def _has_known_segments(image: bytes) -> bool:
    """Return true for known segments only before the first scan, and an end marker at the end.

    Decoders ignore much that does not belong there.
    """
    at = 2
    while at + 4 <= len(image) and image[at] == MARKER and image[at + 1] in SEGMENTS:
        at += 2 + int.from_bytes(image[at + 2 : at + 4])
    return image[at : at + 2] == bytes((MARKER, SCAN)) and image.endswith(END_OF_IMAGE)


def _converted(picture: Image.Image, wanted: tuple[int, int]) -> bytes:
    from PIL import ImageOps  # noqa: PLC0415 - as above

    out = io.BytesIO()
    upright = ImageOps.exif_transpose(picture)
    # Without the comment of the original, which Pillow would keep.
    ImageOps.fit(_opaque(upright), wanted).save(out, "JPEG", quality=QUALITY, comment=b"")
    return out.getvalue()


def _opaque(picture: Image.Image) -> Image.Image:
    """Return the picture in RGB, on white where it is transparent."""
    from PIL import Image  # noqa: PLC0415 - as above

    if picture.mode.startswith("I"):
        # Grey of 16 bits, of which Pillow would keep the lower 8 and make the rest white.
        picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        picture.info.pop("transparency", None)
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    ground = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(ground, layer).convert("RGB")
