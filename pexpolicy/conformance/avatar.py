"""The check of an avatar: an RGB JPEG of exactly the requested width and height."""

from __future__ import annotations

import hashlib
import io
import warnings
from typing import TYPE_CHECKING

from pexpolicy.conformance.findings import CheckResult, Finding, SentRequest, Topic, violation
from pexpolicy.conformance.http_client import Reply
from pexpolicy.models.rules import Confidence

if TYPE_CHECKING:
    from PIL import Image

PLACEHOLDER = "Infinity would show a placeholder"
MAX_PIXELS = 25_000_000


def judge_picture(asked: SentRequest, reply: Reply) -> CheckResult:
    """Return the findings about a picture; the decision is a hash of its pixels."""
    findings = []
    if reply.media_type != "image/jpeg":
        text = f"the content type is {reply.media_type[:60]!r}, not image/jpeg"
        findings.append(violation(Topic.CONTENT_TYPE, text, Confidence.DOCUMENTED))
    found, pixels = _decode(asked, reply.body)
    return CheckResult(findings + found, ("picture", pixels) if pixels else None)


def _decode(asked: SentRequest, body: bytes) -> tuple[list[Finding], str]:
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - for avatars only

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(body)) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    return [_wrong(f"the picture has more than {MAX_PIXELS} pixels")], ""
                picture.load()
                findings = _format(picture) + _size(asked, picture)
                return findings, hashlib.sha256(picture.tobytes()).hexdigest()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        what = "cannot be identified" if isinstance(error, UnidentifiedImageError) else str(error)
        return [_wrong(f"the picture cannot be read: {what[:100]}")], ""


def _format(picture: Image.Image) -> list[Finding]:
    if picture.format != "JPEG":
        return [_wrong(f"the picture is a {picture.format}, not a JPEG")]
    if picture.mode not in ("RGB", "RGBA"):
        return [_wrong(f"the picture's colours are {picture.mode}, not RGB")]
    return []


def _size(asked: SentRequest, picture: Image.Image) -> list[Finding]:
    requested = (int(asked.get("width")), int(asked.get("height")))
    if picture.size == requested:
        return []
    width, height = picture.size
    return [
        _wrong(f"the picture is {width}x{height}, not {requested[0]}x{requested[1]} as requested")
    ]


def _wrong(text: str) -> Finding:
    return violation(Topic.AVATAR, f"{text}. {PLACEHOLDER}", Confidence.TRANSCRIBED)
