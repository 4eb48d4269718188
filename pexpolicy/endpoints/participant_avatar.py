"""Participant avatar: the picture of a participant or of a directory entry."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pexpolicy.endpoints.base import JPEG, Endpoint, Reply, not_found_reply
from pexpolicy.endpoints.jpeg import NoPictureError, jpeg
from pexpolicy.endpoints.shared_parameters import CallRequest, ProxyParameters, ServiceParameters
from pexpolicy.models.alias import Alias
from pexpolicy.models.decision import Continue, Decision
from pexpolicy.models.extras import NO_EXTRAS, Extras
from pexpolicy.models.model import assign
from pexpolicy.models.request import Parameter, Params, integer, role
from pexpolicy.text import brief

MAX_SIDE = 4096
"""Pixels of the longer side of an avatar; ``MAX_PIXELS`` bounds both together."""
ONE_AT_A_TIME = ThreadPoolExecutor(1, thread_name_prefix="pexpolicy-picture")
"""Pictures are decoded one after the other: each takes memory and processor time. A call whose time
is over while it waits is taken off the queue.
"""


class ParticipantAvatarRequest(CallRequest, ServiceParameters, ProxyParameters):
    """Which picture belongs to ``alias``?

    Comes in two shapes: about a participant with all that is known of the call, and about an entry
    of the directory with node, size and ``registered`` only.
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
    """What comes about an entry of the directory."""

    alias: Alias
    """Whose picture is asked for, from the path."""

    width = Parameter(integer, "Width in pixels.")
    height = Parameter(integer, "Height in pixels.")
    role = Parameter(role, "Role of the participant.", values=("chair", "guest", "unknown"))

    def __init__(self, params: Params, alias: str) -> None:
        super().__init__(params)
        self.__dict__["alias"] = Alias(alias)


class Avatar(Decision):
    """A picture: the bytes of a JPEG, or of a PNG, GIF, WebP or BMP.

    What leaves is a JPEG in RGB of exactly the width and height that were asked for (transcribed);
    a picture that is another is converted, scaled and cut around its middle, outside the event
    loop.
    """

    __slots__ = ("image",)
    consequence = "Infinity would show a placeholder"
    sends_result = False

    if TYPE_CHECKING:
        image: ClassVar[bytes]

    def __init__(self, image: bytes, *, reason: str | None = None) -> None:
        super().__init__(reason=reason)
        if type(image) is not bytes:
            raise ENDPOINT.refuse(f"an avatar is the bytes of a picture, not {brief(image)}")
        assign(self, "image", image)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Avatar) and self.image == other.image

    def __hash__(self) -> int:
        return hash(self.image)

    def __repr__(self) -> str:
        return f"Avatar({len(self.image)} bytes)"

    def fitted(self, width: int | None, height: int | None) -> Self:
        """The same as a JPEG in RGB of this size; raises ``DecisionError``."""
        try:
            return type(self)(jpeg(self.image, width, height), reason=self.reason)
        except NoPictureError as error:
            raise ENDPOINT.refuse(str(error)) from None


class _ParticipantAvatar(Endpoint[ParticipantAvatarRequest]):
    check_may_wait = True
    consequence = Avatar.consequence

    def parse(self, params: Params, alias: str = "") -> ParticipantAvatarRequest:
        """The request with the alias of the path."""
        return ParticipantAvatarRequest(params, alias)

    def check_answer(
        self, answer: object, request: ParticipantAvatarRequest
    ) -> Decision | Coroutine[Any, Any, Decision]:
        """Bytes are taken for a picture; a picture is made to fit in a thread."""
        if type(answer) is bytes:
            answer = Avatar(answer)
        decision = self.to_decision(answer)
        return self._fitted(decision, request) if type(decision) is Avatar else decision

    def from_result(self, result: Mapping[str, Any], extras: Extras = NO_EXTRAS) -> Decision:
        """No dictionary stands for a picture."""
        raise self.refuse("a dictionary is no picture")

    async def _fitted(self, avatar: Avatar, request: ParticipantAvatarRequest) -> Decision:
        width, height = request.width, request.height
        if not all(side is None or 0 < side <= MAX_SIDE for side in (width, height)):
            raise self.refuse(
                f"no picture of {width} by {height} pixels is made, which was asked for"
            )
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(ONE_AT_A_TIME, avatar.fitted, width, height)

    def reply(self, decision: Decision, decision_id: str, decided_by: str) -> Reply:
        """The picture, or a 404: Infinity shows a placeholder."""
        if isinstance(decision, Avatar):
            return Reply(200, JPEG, decision.image, "continue")
        return not_found_reply(self.body(decision, decision_id, decided_by))

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
