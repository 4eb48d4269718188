"""Participant avatar: the picture of a participant or of a directory entry."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pexpolicy.alias import Alias
from pexpolicy.checked import assign
from pexpolicy.decisions import Continue, Decision
from pexpolicy.endpoints.base import JPEG, Endpoint, Reply, handed_back
from pexpolicy.endpoints.call_parameters import CallRequest, ServiceParameters
from pexpolicy.parameters import Parameter, Params, integer, role

MAX_PIXELS = 25_000_000
"""Pictures of more pixels than this are refused before they are decoded."""
MAX_SIDE = 4096


class ParticipantAvatarRequest(CallRequest, ServiceParameters):
    """Which picture belongs to ``alias``?

    Comes in two shapes: about a participant with all that is known of the call, and about an entry of the
    directory with node, size and ``registered`` only.
    """

    alias: Alias
    """Whose picture is asked for, from the path."""

    width = Parameter(integer, "Width in pixels.")
    height = Parameter(integer, "Height in pixels.")
    role = Parameter(role, "Role of the participant.", values=("chair", "guest", "unknown"))

    def __init__(self, params: Params, alias: str) -> None:
        super().__init__(params)
        self.__dict__["alias"] = Alias(alias)


class Avatar(Decision):
    """A picture: the bytes of a JPEG, or of any picture that Pillow reads.

    What leaves is a JPEG in RGB of exactly the width and height that were asked for (DOCUMENTED*); a picture
    that is another is converted, scaled and cut around its middle, outside the event loop.
    """

    __slots__ = ("image",)
    consequence = "Infinity would show a placeholder"
    sends_result = False

    if TYPE_CHECKING:
        image: ClassVar[bytes]

    def __init__(self, image: bytes, *, reason: str | None = None) -> None:
        super().__init__(reason=reason)
        if type(image) is not bytes:
            raise ENDPOINT.refuse("an avatar is the bytes of a picture")
        assign(self, "image", image)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Avatar) and self.image == other.image

    def __hash__(self) -> int:
        return hash(self.image)

    def __repr__(self) -> str:
        return f"Avatar({len(self.image)} bytes)"

    def fitted(self, width: int | None, height: int | None) -> Self:
        """The same as a JPEG in RGB of this size; raises ``DecisionError`` for what is no picture."""
        return type(self)(_jpeg(self.image, width, height), reason=self.reason)


def _jpeg(image: bytes, width: int | None, height: int | None) -> bytes:
    from PIL import Image, ImageOps  # noqa: PLC0415 - 40 ms of import that only avatars need

    try:
        with Image.open(io.BytesIO(image)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ENDPOINT.refuse(f"the picture has more than {MAX_PIXELS} pixels")
            wanted = (width or picture.width, height or picture.height)
            right = picture.format == "JPEG" and picture.mode == "RGB" and picture.size == wanted
            picture.load()
            if right:
                return image
            converted = ImageOps.fit(picture.convert("RGB"), wanted)
            out = io.BytesIO()
            converted.save(out, "JPEG", quality=90)
            return out.getvalue()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if type(error).__name__ == "DecisionError":
            raise
        raise ENDPOINT.refuse(f"the picture cannot be read: {error}") from None


class _ParticipantAvatar(Endpoint[ParticipantAvatarRequest]):
    consequence = Avatar.consequence

    def parse(self, params: Params, alias: str = "") -> ParticipantAvatarRequest:
        """The request with the alias of the path."""
        return ParticipantAvatarRequest(params, alias)

    def admit(
        self, answer: object, request: ParticipantAvatarRequest
    ) -> Decision | Coroutine[Any, Any, Decision]:
        """Bytes are taken for a picture; a picture is made to fit in a thread."""
        if isinstance(answer, bytes):
            answer = Avatar(answer)
        if not isinstance(answer, Avatar):
            return super().admit(None if isinstance(answer, dict) else answer, request)
        return self._fitted(answer, request)

    async def _fitted(self, avatar: Avatar, request: ParticipantAvatarRequest) -> Decision:
        width, height = request.width, request.height
        if not all(side is None or 0 < side <= MAX_SIDE for side in (width, height)):
            raise self.refuse(f"no picture can be {width} by {height} pixels")
        return await asyncio.to_thread(avatar.fitted, width, height)

    def reply(self, decision: Decision, decision_id: str, decided_by: str) -> Reply:
        """The picture, or a 404: Infinity shows a placeholder."""
        if isinstance(decision, Avatar):
            return Reply(200, JPEG, decision.image, "continue")
        return handed_back(self.body(decision, decision_id, decided_by))

    def envelope(self, decision: Decision) -> dict[str, Any]:
        """What stands in the body of a 404."""
        return {"status": "fail", "action": "continue"}


ENDPOINT = _ParticipantAvatar(
    name="participant_avatar",
    path="/policy/v1/participant/avatar/",
    request=ParticipantAvatarRequest,
    decisions=(Avatar, Continue),
    refusal=Continue(),
    can_reject=False,
)
