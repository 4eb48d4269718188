"""Participant avatar: the picture of a participant or of a directory entry."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Self
from zlib import crc32

from msgspec import UNSET

from pexpolicy.endpoints.base import JPEG, Endpoint, Reply, not_found_reply
from pexpolicy.endpoints.jpeg import InvalidImageError, jpeg
from pexpolicy.endpoints.shared_parameters import CallRequest, ProxyParameters, ServiceParameters
from pexpolicy.models.alias import Alias
from pexpolicy.models.contract import contract_of
from pexpolicy.models.decision import Continue, Decision
from pexpolicy.models.extras import NO_EXTRAS, Extras
from pexpolicy.models.model import assign
from pexpolicy.models.request import Parameter, Params, integer, role
from pexpolicy.text import brief

Size = tuple[int | None, int | None]
"""Width and height in pixels, ``None`` for those of the picture."""
MAX_SIDE = 4096
"""Pixels of the longer side of an avatar; ``MAX_PIXELS`` bounds both together."""
IMAGE_THREAD = ThreadPoolExecutor(1, thread_name_prefix="pexpolicy-picture")
"""Pictures are converted one at a time: each takes memory and processor time. A call that times out
in the queue is removed from it.
"""


class ParticipantAvatarRequest(CallRequest, ServiceParameters, ProxyParameters):
    """Which picture belongs to ``alias``?

    There are two forms: about a participant, with the parameters of the call, and about an entry of
    the directory, with node, size and ``registered`` only.
    """

    since = "v11"
    directory: ClassVar[tuple[str, ...]] = (
        "height",
        "location",
        "node_ip",
        "pseudo_version_id",
        "registered",
        "version_id",
        "width",
    )
    """The parameters of a request about an entry of the directory."""

    alias: Alias
    """The alias of the participant or entry, from the path."""

    width = Parameter(integer)
    """Width in pixels."""
    height = Parameter(integer)
    """Height in pixels."""
    role = Parameter(role, values=("chair", "guest", "unknown"))
    """Role of the participant."""

    def __init__(self, params: Params, alias: str) -> None:
        super().__init__(params)
        self.__dict__["alias"] = Alias(alias)


class Avatar(Decision, consequence="Infinity would show a placeholder", sends_result=False):
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

    def _copied(self, reason: str | None, warnings: tuple[str, ...]) -> Self:
        copied = super()._copied(reason, warnings)
        assign(copied, "image", self.image)
        assign(copied, "size", self.size)
        return copied


class _ParticipantAvatar(Endpoint[ParticipantAvatarRequest]):
    check_may_wait = True
    plain_answer = "the bytes of a picture"
    consequence = contract_of(Avatar).consequence

    def parse(self, params: Params, alias: str = "") -> ParticipantAvatarRequest:
        """Return the request with the alias of the path."""
        return ParticipantAvatarRequest(params, alias)

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
        return not_found_reply(self.body(decision, decision_id, decided_by))

    def envelope(self, decision: Decision) -> dict[str, Any]:
        """Return the body of a 404."""
        return {"status": "fail", "action": "continue"}


ENDPOINT = _ParticipantAvatar(
    name="participant_avatar",
    path="/policy/v1/participant/avatar/",
    request=ParticipantAvatarRequest,
    decisions=(Avatar, Continue),
    refusal=Continue(),
    can_reject=False,
)
