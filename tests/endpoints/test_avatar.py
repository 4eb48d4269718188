"""Avatars: a JPEG in RGB of exactly the size that was asked for, or none."""

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pexpolicy import Avatar, DecisionError
from tests.support import live_server, wire
from tests.support.fake_plugins import Serve, always, plugin
from tests.support.oracle import judge


def picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, kind)
    return out.getvalue()


PICTURES = {
    "jpeg": picture("JPEG"),
    "grey jpeg": picture("JPEG", "L"),
    "cmyk jpeg": picture("JPEG", "CMYK"),
    "png": picture("PNG"),
    "png with alpha": picture("PNG", "RGBA"),
    "png with palette": picture("PNG", "P"),
    "gif": picture("GIF", "P"),
    "bitmap": picture("BMP"),
    "tiny": picture("PNG", size=(1, 1)),
}


@pytest.mark.parametrize("image", PICTURES.values(), ids=PICTURES)
@pytest.mark.parametrize("size", ["width=64&height=48", "width=40&height=30", "width=10", ""])
async def test_any_picture_leaves_as_infinity_wants_it(
    serving: Serve, image: bytes, size: str
) -> None:
    async with serving({"faces": plugin(participant_avatar=always(Avatar(image)))}) as server:
        reply = await server.ask(f"{wire.AVATAR}alice?{size}")
        assert reply.status == 200
        content_type = reply.headers["content-type"]
        assert not judge("participant_avatar", size, 200, content_type, reply.body)
        assert server.lines()[-1]["decided_by"] == "faces"


@pytest.mark.parametrize("grey", [0, 16, 128, 255])
def test_grey_of_16_bits_stays_grey(grey: int) -> None:
    out = io.BytesIO()
    Image.new("I;16", (8, 8), grey * 256).save(out, "PNG")
    made = Avatar(out.getvalue()).resized(4, 4)
    with Image.open(io.BytesIO(made.image)) as found:
        pixel = found.getpixel((2, 2))
    assert isinstance(pixel, tuple)
    assert all(abs(value - grey) <= 2 for value in pixel)


async def test_a_picture_that_fits_is_sent_as_it_is(serving: Serve) -> None:
    image = PICTURES["jpeg"]
    async with serving({"faces": plugin(participant_avatar=always(image))}) as server:
        reply = await server.ask(f"{wire.AVATAR}alice?width=40&height=30")
        assert reply.body == image


async def test_exif_data_is_removed_and_its_orientation_honoured(serving: Serve) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    out = io.BytesIO()
    upside_down = Image.new("RGB", (40, 30))
    upside_down.paste("white", (0, 0, 40, 15))
    upside_down.save(out, "JPEG", exif=exif)
    async with serving({"faces": plugin(participant_avatar=always(out.getvalue()))}) as server:
        reply = await server.ask(f"{wire.AVATAR}alice?width=40&height=30")
    sent = Image.open(io.BytesIO(reply.body))
    assert (sent.getpixel((20, 2)), sent.getpixel((20, 28))) == ((0, 0, 0), (255, 255, 255))
    assert b"Exif" not in reply.body


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photo_of_a_phone_is_decoded_at_a_part_of_its_size(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    Image.new("RGB", (4000, 2400)).save(out, "JPEG", exif=exif)
    for size in [(100, 100), (1000, 600), (600, 1000), (300, 900)]:
        assert Image.open(io.BytesIO(Avatar(out.getvalue()).resized(*size).image)).size == size
    for width in (None, 2200):
        with pytest.raises(DecisionError, match="is too large: 4,000,000 are the limit"):
            Avatar(out.getvalue()).resized(width, 500)


def test_a_photo_with_further_pictures_after_it_is_decoded() -> None:
    out = io.BytesIO()
    photo = Image.new("RGB", (4000, 2400))
    photo.save(out, "MPO", save_all=True, append_images=[photo.resize((400, 240))])
    assert Image.open(io.BytesIO(out.getvalue())).format == "MPO"
    sent = Image.open(io.BytesIO(Avatar(out.getvalue()).resized(100, 60).image))
    assert (sent.format, sent.size) == ("JPEG", (100, 60))


def test_a_jpeg_of_very_many_scans_is_not_decoded() -> None:
    out = io.BytesIO()
    Image.new("RGB", (100, 100)).save(out, "JPEG", progressive=True)
    usual = out.getvalue()
    Avatar(usual).resized(10, 10)
    last = usual[usual.rindex(b"\xff\xda") : -2]
    for size in (10, 100):
        with pytest.raises(DecisionError, match="more than 64 scans"):
            Avatar(usual[:-2] + 10_000 * last + usual[-2:]).resized(size, size)


def test_a_picture_that_was_resized_by_a_plugin_keeps_all_but_the_reason() -> None:
    resized = Avatar(PICTURES["png"], reason="a reason").resized(64, 48)
    assert resized.resized(64, 48).image == resized.image
    changed = resized.with_reason("another").with_warnings("one")
    assert (changed.image, changed.size) == (resized.image, (64, 48))
    assert (changed.reason, changed.warnings) == ("another", ("one",))


@pytest.mark.parametrize("size", ["width=64&height=48", "width=64&height=47", "width=64", ""])
async def test_a_picture_that_was_resized_for_another_size_is_resized_again(
    serving: Serve, size: str
) -> None:
    resized = Avatar(PICTURES["png"]).resized(64, 48)
    async with serving({"faces": plugin(participant_avatar=always(resized))}) as server:
        reply = await server.ask(f"{wire.AVATAR}alice?{size}")
        assert not judge("participant_avatar", size, 200, "image/jpeg", reply.body)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<svg/>",
        PICTURES["jpeg"][:60],
        PICTURES["png"][:40],
        picture("PNG", "1", (2001, 2000)),
        "picture",
        PICTURES,
    ],
    ids=["empty", "svg", "half a jpeg", "half a png", "bomb", "text", "dictionary"],
)
async def test_what_is_no_picture_is_an_invalid_step(serving: Serve, answer: Any) -> None:
    async with serving({"faces": plugin(participant_avatar=always(answer))}) as server:
        reply = await server.ask(f"{wire.AVATAR}alice?width=40&height=30")
        assert reply.status == 404
        assert server.steps() == [("faces", "invalid")]


@pytest.mark.parametrize(
    "size", ["width=0&height=10", "width=-5", "height=1000000", "width=4096&height=4096"]
)
async def test_a_size_that_no_picture_has_is_refused(serving: Serve, size: str) -> None:
    avatar = Avatar(PICTURES["jpeg"])
    async with serving({"faces": plugin(participant_avatar=always(avatar))}) as server:
        assert (await server.ask(f"{wire.AVATAR}alice?{size}")).status == 404
        assert server.steps() == [("faces", "invalid")]


async def test_the_alias_is_the_one_in_the_path(serving: Serve) -> None:
    async def looks(request: Any) -> object:
        assert request.alias.raw == "sip:a+b c@example.com"
        assert request.alias == "a+b c@example.com"
        return PICTURES["jpeg"]

    async with serving({"faces": plugin(participant_avatar=looks)}) as server:
        assert (await server.ask(f"{wire.AVATAR}sip%3Aa+b%20c%40example.com")).status == 200


PLUGIN = """
import io
from PIL import Image
from pexpolicy import hookimpl

out = io.BytesIO()
Image.new("RGBA", (2000, 2000)).save(out, "PNG")


class Faces:
    @hookimpl
    async def participant_avatar(self, request):
        return out.getvalue()
"""
MOST = 200
"""Megabytes for all pictures together."""


def peak(pid: int) -> int:
    """Megabytes that a process had at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


async def test_pictures_that_are_asked_for_at_once_are_decoded_one_after_the_other(
    tmp_path: Path,
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "faces.py").write_text(PLUGIN)
    config = tmp_path / "config.toml"
    config.write_text(
        'plugin_dirs = ["plugins"]\n[audit]\npath = "audit.jsonl"\n[plugins.faces]\ntimeout = 4.0\n'
    )
    with live_server.running(config) as server:
        before = peak(server.pid)
        target = f"{wire.AVATAR}alice?width=2000&height=2000"
        replies = await asyncio.gather(*(asyncio.to_thread(server.ask, target) for _ in range(30)))
        assert [reply.status for reply in replies].count(200) > 1
        assert peak(server.pid) - before < MOST
