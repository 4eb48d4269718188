"""Pictures from a folder: which file belongs to an alias, and that no other is ever read."""

import io
import os
import unicodedata
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pexpolicy import Alias
from pexpolicy.testing import make_policy, make_request
from pexpolicy_avatars import Avatars
from pexpolicy_avatars.settings import AvatarsSettings, Template
from pexpolicy_avatars.sources import MAX_BYTES, Folder, PictureError
from tests.support import traversal
from tests.support.avatars import BLUE, RED, Asker, Serving, color_of, image_of, picture

FILES = ("{alias}.jpg", "{user}.png", "{host}.jpg", "{user}@{host}.jpg")


@pytest.mark.parametrize("size", [(100, 100), (40, 40), (64, 48), (48, 64), (1, 1), (400, 30)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
async def test_a_picture_has_the_requested_size(
    serving: Serving, folder: Path, size: tuple[int, int], kind: str
) -> None:
    (folder / "anna.jpg").write_bytes(picture(kind=kind))
    async with serving(folder=str(folder)) as ask:
        for _ in range(2):
            image = image_of(await ask(width=size[0], height=size[1]))
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", size)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
async def test_grey_and_printed_pictures_become_rgb(
    serving: Serving, folder: Path, mode: str
) -> None:
    (folder / "anna.jpg").write_bytes(picture(mode=mode))
    async with serving(folder=str(folder)) as ask:
        assert image_of(await ask()).mode == "RGB"


async def test_the_centre_is_cut_out(serving: Serving, folder: Path) -> None:
    (folder / "anna.jpg").write_bytes(picture((400, 100), RED, right=BLUE))
    async with serving(folder=str(folder)) as ask:
        outcome = await ask(width=100, height=100)
    assert color_of(outcome, (0.1, 0.5)) == RED
    assert color_of(outcome, (0.9, 0.5)) == BLUE


async def test_the_orientation_is_honoured_and_its_data_removed(
    serving: Serving, folder: Path
) -> None:
    turned = picture((100, 100), RED, right=BLUE, orientation=6)
    (folder / "anna.jpg").write_bytes(turned)
    async with serving(folder=str(folder)) as ask:
        outcome = await ask(width=100, height=100)
    assert color_of(outcome, (0.5, 0.1)) == RED
    assert color_of(outcome, (0.5, 0.9)) == BLUE
    assert not image_of(outcome).getexif()


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("anna@example.com.jpg", "anna@example.com"),
        ("anna@example.com.jpg", "sip:Anna@Example.com:5060;transport=tls"),
        ("Anna@Example.COM.JPG", "anna@example.com"),
        ("anna.jpg", "h323:anna@example.com"),
        ("anna.png", "anna"),
        ("+4712345678.jpg", "tel:+47-123-45678"),
        ("anna b.jpg", "anna b@example.com"),
        (unicodedata.normalize("NFD", "\N{LATIN CAPITAL LETTER A WITH DIAERESIS}sa.jpg"), "äsa"),
    ],
)
async def test_the_name_of_the_file_is_that_of_the_alias(
    serving: Serving, folder: Path, name: str, alias: str
) -> None:
    (folder / name).write_bytes(picture())
    async with serving(folder=str(folder)) as ask:
        outcome = await ask(alias)
    assert outcome.decided_by == "avatars"
    assert outcome.decision.reason == "a picture from folder"


async def test_templates_are_tried_in_their_order(serving: Serving, folder: Path) -> None:
    (folder / "anna.jpg").write_bytes(picture(color=RED))
    (folder / "anna@example.com.jpg").write_bytes(picture(color=BLUE))
    async with serving(folder=str(folder), files=["{user}@{host}.jpg", "{user}.jpg"]) as ask:
        assert color_of(await ask("anna@example.com")) == BLUE
        assert color_of(await ask("anna@elsewhere.example")) == RED
        assert color_of(await ask("anna")) == RED


async def test_people_of_other_domains_have_no_picture(serving: Serving, folder: Path) -> None:
    (folder / "anna.jpg").write_bytes(picture())
    async with serving(folder=str(folder), domains=["@Example.com"]) as ask:
        assert (await ask("anna@elsewhere.example")).decided_by == "default"
        assert (await ask("anna@sub.example.com")).decided_by == "default"
        assert (await ask("anna@example.com")).decided_by == "avatars"
        assert (await ask("anna")).decided_by == "avatars"


async def test_a_folder_that_is_missing_is_a_failure_until_it_is_there(
    serving: Serving, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder / "later"
    async with serving(folder=str(folder)) as ask:
        assert "there is no folder of pictures yet" in caplog.text
        outcome, detail = await ask.step()
        assert outcome == "failed"
        assert f"{folder} cannot be read: No such file or directory" in detail
        folder.mkdir()
        (folder / "anna.jpg").write_bytes(picture())
        assert (await ask.step())[0] == "decided"


@pytest.mark.parametrize("content", [b"", b"secret", picture()[:200], b"<svg/>"])
async def test_what_is_no_picture_fails_and_is_not_cached(
    serving: Serving, folder: Path, content: bytes
) -> None:
    (folder / "anna.jpg").write_bytes(content)
    async with serving(folder=str(folder), max_age=0) as ask:
        assert (await ask.step())[0] in ("failed", "invalid")
        (folder / "anna.jpg").write_bytes(picture())
        assert (await ask.step())[0] == "decided"


async def test_a_decompression_bomb_is_not_decoded(serving: Serving, folder: Path) -> None:
    (folder / "anna.jpg").write_bytes(picture((2100, 2000), kind="PNG"))
    async with serving(folder=str(folder)) as ask:
        _, detail = await ask.step()
    assert "too large" in detail


@pytest.mark.parametrize(("width", "height"), [(0, 10), (-5, 10), (100_000, 1), (4096, 4096)])
async def test_a_size_that_no_picture_has_is_refused(
    serving: Serving, folder: Path, width: int, height: int
) -> None:
    (folder / "anna.jpg").write_bytes(picture())
    async with serving(folder=str(folder), initials={}) as ask:
        assert (await ask(width=width, height=height)).decided_by == "default"


def read(folder: Path, alias: str, *files: str) -> bytes | None:
    source = Folder(folder, [Template(text) for text in files or ("{alias}.jpg",)])
    return source.read(Alias(alias))


def test_a_link_may_stay_in_the_folder_and_not_leave_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (folder / "anna.jpg").write_bytes(b"anna")
    (folder / "annie.jpg").symlink_to("anna.jpg")
    (folder / "bob.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "carl.jpg").symlink_to("../secret.jpg")
    (folder / "dora.jpg").symlink_to("nothing.jpg")
    (folder / "eve.jpg").symlink_to("eve.jpg")
    assert read(folder, "annie") == b"anna"
    for alias in ("bob", "carl"):
        with pytest.raises(PictureError, match="leads out of the folder"):
            read(folder, alias)
    assert read(folder, "dora") is None
    with pytest.raises(PictureError, match="cannot be read"):
        read(folder, "eve")


def test_only_regular_files_of_a_sensible_size_are_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    (folder / "sub.jpg").mkdir()
    (folder / ".hidden.jpg").write_bytes(b"hidden")
    with (folder / "large.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for alias in ("pipe", "sub"):
        with pytest.raises(PictureError, match=r"not a regular file|Is a directory"):
            read(folder, alias)
    with pytest.raises(PictureError, match="10,485,760 are the limit"):
        read(folder, "large")
    assert read(folder, ".hidden") is None


@pytest.fixture(scope="module")
def surrounded(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder with pictures, and with others around it that must not be read."""
    root = tmp_path_factory.mktemp("surrounded")
    return Folder(traversal.surrounded(root), [Template(text) for text in FILES])


def reads_only_what_is_inside(folder: Folder, text: str) -> None:
    with suppress(PictureError):
        assert folder.read(Alias(text)) in (None, traversal.INSIDE)


@given(
    st.lists(st.sampled_from(traversal.FRAGMENTS) | st.text(max_size=4), max_size=8).map("".join)
)
def test_no_alias_leaves_the_folder(surrounded: Folder, text: str) -> None:
    reads_only_what_is_inside(surrounded, text)


def test_no_known_traversal_leaves_the_folder(surrounded: Folder) -> None:
    for text in traversal.ATTACKS:
        reads_only_what_is_inside(surrounded, text)
    assert surrounded.read(Alias("anna")) == traversal.INSIDE


async def test_a_traversal_in_the_path_of_a_call_finds_nothing(
    serving: Serving, tmp_path: Path
) -> None:
    (tmp_path / "people").mkdir()
    (tmp_path / "anna.jpg").write_bytes(picture())
    async with serving(folder=str(tmp_path / "people")) as ask:
        for alias in ("../anna", "..\\anna", "%2e%2e/anna", f"{tmp_path}/anna"):
            assert (await ask(alias)).decided_by == "default"


async def test_a_rendering_is_as_old_as_its_picture(folder: Path) -> None:
    now = 1000.0
    settings = AvatarsSettings.model_validate({"folder": str(folder), "max_age": 60})
    plugin = Avatars(settings, clock=lambda: now)
    path = folder / "anna.jpg"

    async def size_of_the_original(width: int) -> int | None:
        request = make_request("participant_avatar", alias="anna", width=width, height=None)
        avatar = await plugin.participant_avatar(request)
        return None if avatar is None else Image.open(io.BytesIO(avatar.image)).height

    async with plugin.lifespan():
        path.write_bytes(picture((300, 200)))
        assert await size_of_the_original(10) == 200
        path.write_bytes(picture((300, 100)))
        now += 50
        assert await size_of_the_original(20) == 200, "the picture is cached"
        now += 11
        assert await size_of_the_original(20) == 100
        path.unlink()
        now += 60
        assert await size_of_the_original(20) == 100
        now += 1
        assert await size_of_the_original(20) is None
        path.write_bytes(picture((300, 50)))
        now += 60
        assert await size_of_the_original(20) is None
        now += 1
        assert await size_of_the_original(20) == 50


async def test_it_works_in_processes_of_its_own(folder: Path) -> None:
    (folder / "anna.jpg").write_bytes(picture())
    table = {"plugins": {"avatars": {"isolation": "process"}}}
    policy = make_policy((Avatars, {"folder": str(folder), "initials": {}}), config=table)
    async with policy.serving():
        ask = Asker(policy)
        assert image_of(await ask("anna", width=30, height=20)).size == (30, 20)
        assert (await ask("bob")).decision.reason == "initials"
