"""Pictures, whole and broken."""

import io
import random
import zlib
from functools import cache

from PIL import Image


def saved(kind: str, mode: str, size: tuple[int, int], **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, 128 if mode in ("L", "P", "1") else None).save(out, kind, **options)
    return out.getvalue()


def bomb() -> bytes:
    """A PNG that says it has four thousand million pixels."""
    small = saved("PNG", "RGB", (1, 1))
    header = small[12:16] + (65_000).to_bytes(4) * 2 + small[24:29]
    return small[:12] + header + zlib.crc32(header).to_bytes(4) + small[33:]


@cache
def pictures() -> tuple[bytes, ...]:
    """All of them."""
    jpeg = saved("JPEG", "RGB", (40, 40))
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: tuple[tuple[str, str, tuple[int, int], dict[str, object]], ...] = (
        ("JPEG", "RGB", (100, 20), {}),
        ("JPEG", "RGB", (40, 40), {"progressive": True}),
        ("JPEG", "RGB", (40, 40), {"exif": turned}),
        *(("JPEG", mode, (40, 40), {}) for mode in ("L", "CMYK")),
        ("PNG", "RGBA", (17, 60), {}),
        ("PNG", "P", (9, 9), {"transparency": 0}),
        *(("PNG", mode, (9, 9), {}) for mode in ("I;16", "1")),
        *((kind, "RGB", (12, 12), {}) for kind in ("BMP", "TIFF")),
        *(("GIF", "P", (12, 12), {}), ("WEBP", "RGBA", (12, 12), {})),
    )
    return (
        *(saved(kind, mode, size, **options) for kind, mode, size, options in kinds),
        *(jpeg, jpeg[:-2], jpeg[: len(jpeg) // 2], jpeg + b"trailing", jpeg[2:], bomb()),
        *(b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"<html>404</html>"),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    )


def picture(rng: random.Random) -> bytes:
    """One of them, by a chance with some bytes changed."""
    chosen = bytearray(rng.choice(pictures()))
    if chosen and rng.random() < 0.3:
        for _ in range(rng.randrange(1, 4)):
            chosen[rng.randrange(len(chosen))] = rng.randrange(256)
    return bytes(chosen)
