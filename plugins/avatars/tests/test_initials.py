"""Initials: whose, of which letters, and in which colours."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from pexpolicy import Alias
from pexpolicy_avatars.plugin import Initials
from pexpolicy_avatars.settings import InitialsSettings
from tests.support.avatars import BLUE, RED, Serving, color_of, image_of, picture

COLORS = ["#dc1e1e", "rgb(30, 30, 220)"]
INITIALS = Initials(InitialsSettings(colors=COLORS))


@pytest.mark.parametrize(
    ("name", "alias", "letters"),
    [
        ("Anna Schmidt", "as1@example.com", "AS"),
        ("anna maria von schmidt", "a@example.com", "AS"),
        ("Anna", "a@example.com", "A"),
        ("D'Arcy O'Neil", "x", "DO"),
        ("Schmidt, Anna (Sales)", "x", "SS"),
        (None, "anna.schmidt@example.com", "AS"),
        (None, "anna-maria_von-schmidt42@example.com", "AS"),
        ("", "bob@example.com", "B"),
        ("+47 123 45 678", "bob", "B"),
        ("\N{LATIN CAPITAL LETTER O WITH STROKE}yvind Åse", "x", "ØÅ"),
        (None, "+4712345678", ""),
        (None, "2301@example.com", ""),
    ],
)
def test_they_are_of_the_first_and_last_word(name: str | None, alias: str, letters: str) -> None:
    assert INITIALS.letters(name, Alias(alias)) == letters


@given(st.text(), st.text(), st.integers(1, 60), st.integers(1, 60))
def test_every_name_has_a_picture_or_none(name: str, alias: str, width: int, height: int) -> None:
    letters = INITIALS.letters(name, Alias(alias))
    drawn = INITIALS.draw(letters, INITIALS.color(Alias(alias)), width, height)
    assert drawn is None or drawn.size == (width, height)
    if letters.isascii():
        assert (drawn is None) == (letters == "")


async def test_who_has_no_picture_gets_initials(serving: Serving, folder: Path) -> None:
    (folder / "anna.jpg").write_bytes(picture(color=RED))
    colors = ["#1e1edc"]
    async with serving(
        folder=str(folder), domains=["example.com"], initials={"colors": colors}
    ) as ask:
        assert (await ask("anna@example.com")).decision.reason == "a picture from folder"
        for alias in ("bob@example.com", "anna@elsewhere.example"):
            for _ in range(2):
                outcome = await ask(alias, width=80, height=50)
                assert outcome.decision.reason == "initials"
                image = image_of(outcome)
                assert (image.size, image.format, image.mode) == ((80, 50), "JPEG", "RGB")
                assert color_of(outcome, (0.05, 0.05)) == BLUE
                assert len(image.getcolors(maxcolors=9999) or ()) > 10, "there are letters"
        assert await ask.step("+4712345678", remote_display_name=None) == ("abstained", "")


async def test_they_follow_the_display_name_that_was_sent(serving: Serving) -> None:
    async with serving(initials={}) as ask:
        images = [
            image_of(await ask("x@example.com", remote_display_name=name)).tobytes()
            for name in ("Anna Schmidt", "Bob Meyer", "Anna Schmidt", None)
        ]
    assert images[0] == images[2]
    assert len(set(images)) == 3


def test_an_alias_has_always_the_same_color_and_aliases_have_all_of_them() -> None:
    colors = [INITIALS.color(Alias(f"user-{number}@example.com")) for number in range(50)]
    assert set(colors) == {RED, BLUE}
    assert INITIALS.color(Alias("sip:Anna@example.com")) == INITIALS.color(
        Alias("anna@example.com")
    )


def test_letters_that_the_font_lacks_are_not_drawn() -> None:
    assert INITIALS.draw("ÄÖ", RED, 50, 50) == INITIALS.draw("AO", RED, 50, 50)
    for letters in ("\N{CYRILLIC CAPITAL LETTER ZHE}", "\N{HEBREW LETTER ALEF}A", "中", ""):
        assert INITIALS.draw(letters, RED, 50, 50) is None


def test_a_font_of_ones_own_is_used(tmp_path: Path) -> None:
    font = ImageFont.load_default(10)
    assert isinstance(font, ImageFont.FreeTypeFont)
    path = tmp_path / "font.ttf"
    path.write_bytes(font.font_bytes)
    made = Initials(InitialsSettings.model_validate({"font": str(path)}))
    assert made.draw("AO", RED, 50, 50) is not None
    assert made.draw("ÄÖ", RED, 50, 50) is None, "accents are not left out, and this font has none"


@pytest.mark.parametrize("size", [(None, None), (None, 30), (2048, 1)])
def test_any_size_up_to_the_limit_is_drawn(size: tuple[int | None, int | None]) -> None:
    drawn = INITIALS.draw("AS", RED, *size)
    assert drawn is not None
    assert drawn.size == (size[0] or 100, size[1] or 100)
    assert INITIALS.draw("AS", RED, 2049, 1) is None
