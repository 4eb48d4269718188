"""Parser for JPEG headers, so that the oracle needs no image library."""

from dataclasses import dataclass

START, END = b"\xff\xd8", b"\xff\xd9"
NO_FRAME = {0xC4, 0xC8, 0xCC}
STANDALONE = {0x01, *range(0xD0, 0xD8)}
SCAN = 0xDA


@dataclass(frozen=True, slots=True)
class Frame:
    """Size in pixels and number of colour components, as the start-of-frame segment says."""

    width: int
    height: int
    components: int


def read_frame(image: bytes) -> Frame:
    """Read the frame header of a JPEG.

    Raises ValueError when the bytes are not a whole JPEG: no start marker, a segment that runs over
    the end, no frame before the first scan, or no end marker.
    """
    if image[:2] != START:
        raise ValueError("no JPEG start marker")
    frame: Frame | None = None
    at = 2
    while at + 4 <= len(image) and image[at] == 0xFF:
        marker = image[at + 1]
        if marker == 0xFF or marker in STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(image[at + 2 : at + 4], "big")
        segment = image[at + 4 : at + 2 + length]
        if length < 2 or len(segment) < length - 2:
            raise ValueError("a JPEG segment runs over the end")
        if 0xC0 <= marker <= 0xCF and marker not in NO_FRAME:
            frame = frame_of(segment)
        if marker == SCAN:
            if frame is None or END not in image[at:]:
                break
            return frame
        at += 2 + length
    raise ValueError("not a whole JPEG")


def frame_of(segment: bytes) -> Frame:
    """Read a start-of-frame segment: precision, height, width, components."""
    if len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
        raise ValueError("a JPEG frame header is too short")
    return Frame(
        width=int.from_bytes(segment[3:5], "big"),
        height=int.from_bytes(segment[1:3], "big"),
        components=segment[5],
    )
