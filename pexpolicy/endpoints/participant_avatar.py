"""Participant avatar: the picture of a participant or of a directory entry."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Self
from zlib import crc32

from msgspec import UNSET

from pexpolicy.endpoints.base import JPEG, Endpoint, Reply
from pexpolicy.endpoints.shared_parameters import (
    AliasRequest,
    CallRequest,
    ProxyParameters,
    ServiceParameters,
)
from pexpolicy.models.contract import NO_EXTRAS, Extras
from pexpolicy.models.decision import Continue, Decision, assign
from pexpolicy.models.request import Parameter, integer, role
from pexpolicy.text import brief

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
            is_turned = picture.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
            own = picture.size[::-1] if is_turned else picture.size
            wanted = (width or own[0], height or own[1])
            is_jpeg = picture.format in JPEGS
            if is_jpeg and image.count(bytes((MARKER, SCAN))) > MAX_SCANS:
                text = f"the picture has more than {MAX_SCANS} scans: save it without progression"
                raise InvalidImageError(text)  # noqa: TRY301 - as below
            is_reduced = is_jpeg and MAX_PIXELS < math.prod(picture.size) <= MAX_JPEG_PIXELS
            if is_reduced:
                # Square, as the picture may have to be rotated.
                picture.draft("RGB", (max(wanted), max(wanted)))
            for pixels in map(math.prod, (picture.size, wanted)):
                if pixels > MAX_PIXELS:
                    text = f"a picture of {pixels:,} pixels is too large: {MAX_PIXELS:,} are"
                    raise InvalidImageError(f"{text} the limit")  # noqa: TRY301 - as below
            is_rgb = picture.format == "JPEG" and picture.mode == "RGB"
            is_whole = picture.size == wanted and not is_reduced
            if is_rgb and is_whole and _has_known_segments(image):
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


def _has_known_segments(image: bytes) -> bool:
    """Return true for known segments only before the first scan, and an end marker at the end.

    Decoders ignore much that does not belong there.
    """
    at = 2
    while at + 4 <= len(image) and image[at] == MARKER and image[at + 1] in SEGMENTS:
        at += 2 + int.from_bytes(image[at + 2 : at + 4])
    return image[at : at + 2] == bytes((MARKER, SCAN)) and image.endswith(END_OF_IMAGE)


def _converted(picture: Image.Image, wanted: tuple[int, int]) -> bytes:
    """Return a JPEG of this size, on white where the picture is transparent."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - as above

    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        # Grey of 16 bits, of which Pillow would keep the lower 8 and make the rest white.
        picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        picture.info.pop("transparency", None)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    out = io.BytesIO()
    # Without the comment of the original, which Pillow would keep.
    made = ImageOps.fit(picture.convert("RGB"), wanted)
    made.save(out, "JPEG", quality=QUALITY, comment=b"")
    return out.getvalue()


Size = tuple[int | None, int | None]
"""Width and height in pixels, ``None`` for those of the picture."""
MAX_SIDE = 4096
"""Pixels of the longer side of an avatar; ``MAX_PIXELS`` bounds both together."""
IMAGE_THREAD = ThreadPoolExecutor(1, thread_name_prefix="pexpolicy-picture")
"""Pictures are converted one at a time: each takes memory and processor time. A call that times out
in the queue is removed from it.
"""


class ParticipantAvatarRequest(AliasRequest, CallRequest, ServiceParameters, ProxyParameters):
    """Which picture belongs to ``alias``?

    There are two forms: about a participant, with the parameters of the call, and about an entry of
    the directory, with node, size and ``registered`` only.
    """

    since = "v11"
    width = Parameter(integer)
    """Width in pixels."""
    height = Parameter(integer)
    """Height in pixels."""
    role = Parameter(role, values=("chair", "guest", "unknown"))
    """Role of the participant."""


class Avatar(Decision, consequence="Infinity would show a placeholder"):
    """A picture: the bytes of a JPEG, or of a PNG, GIF, WebP or BMP.

    The reply is a JPEG in RGB of exactly the requested width and height (transcribed). Other
    pictures are converted, scaled and cropped around their centre, outside the event loop.
    """

    __slots__ = ("image", "size")

    if TYPE_CHECKING:
        image: ClassVar[bytes]
        size: ClassVar[Size | None]
        """The size that ``resized`` was called with; such a picture is not converted again."""

    def __init__(self, image: bytes, *, reason: str | None = None) -> None:
        super().__init__(reason=reason)
        if type(image) is not bytes:
            raise ENDPOINT.refuse(f"an avatar takes the bytes of a picture, not {brief(image)}")
        assign(self, "image", image)
        assign(self, "size", None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Avatar) and self.image == other.image

    def __hash__(self) -> int:
        return hash(self.image)

    def __repr__(self) -> str:
        return f"Avatar({len(self.image)} bytes)"

    def replace(self, /, **fields: Any) -> Self:
        """Return the same with another ``image`` or ``reason``; raise ``DecisionError``."""
        kept = {"image": self.image, "reason": self.reason, **fields}
        if kept.keys() != {"image", "reason"}:
            raise ENDPOINT.refuse("an avatar has an image and a reason, and no other fields")
        reason = kept["reason"]
        return type(self)(kept["image"], reason=None if reason is UNSET else reason)

    def facts(self) -> dict[str, Any]:
        """Return all that can be changed; the picture by its size and checksum."""
        image = f"{len(self.image)} bytes, CRC-32 {crc32(self.image):08x}"
        return {**super().facts(), "image": image}

    def resized(self, width: int | None, height: int | None) -> Self:
        """Return the same as a JPEG in RGB of this size, ``None`` for the picture's own width or
        height; raise ``DecisionError``.

        A plugin that keeps the result for the next request of this size saves the conversion.
        """
        if not all(side is None or 0 < side <= MAX_SIDE for side in (width, height)):
            raise ENDPOINT.refuse(f"a picture of {width} by {height} pixels cannot be made")
        try:
            made = type(self)(jpeg(self.image, width, height), reason=self.reason)
        except InvalidImageError as error:
            raise ENDPOINT.refuse(str(error)) from None
        assign(made, "size", (width, height))
        return made

    def _copied(self, reason: str | None, *added: str) -> Self:
        copied = super()._copied(reason, *added)
        assign(copied, "image", self.image)
        assign(copied, "size", self.size)
        return copied


class _ParticipantAvatar(Endpoint[ParticipantAvatarRequest]):
    check_may_wait = True
    plain_answer = "the bytes of a picture"

    def check_answer(
        self, answer: object, request: ParticipantAvatarRequest
    ) -> Decision | Coroutine[Any, Any, Decision]:
        """Accept bytes as a picture; resize pictures in a thread."""
        if type(answer) is bytes:
            answer = Avatar(answer)
        decision = self.to_decision(answer)
        if type(decision) is Avatar and decision.size != (request.width, request.height):
            return self._resized(decision, request)
        return decision

    def from_result(self, result: Mapping[str, Any], extras: Extras = NO_EXTRAS) -> Decision:
        """Raise ``DecisionError``: no dictionary is a picture."""
        raise self.refuse("a dictionary is not a picture")

    async def _resized(self, avatar: Avatar, request: ParticipantAvatarRequest) -> Decision:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            IMAGE_THREAD, avatar.resized, request.width, request.height
        )

    def reply(self, decision: Decision, decision_id: str, decided_by: str) -> Reply:
        """Return the picture, or a 404, on which Infinity shows a placeholder."""
        if isinstance(decision, Avatar):
            return Reply(200, JPEG, decision.image, "continue")
        return super().reply(decision, decision_id, decided_by)


ENDPOINT = _ParticipantAvatar(
    name="participant_avatar",
    path="/policy/v1/participant/avatar/",
    request=ParticipantAvatarRequest,
    decisions=(Avatar, Continue),
    refusal=Continue(),
    can_reject=False,
    continues_by_404=True,
)
