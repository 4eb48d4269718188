"""Texts without secrets, also where they were cut."""

import pytest

from pexpolicy.testing import make_request
from pexpolicy_local_policy.variables import from_test_page
from pexpolicy_local_policy.verdict import covered, masked

FOUND = from_test_page({"call_info": {}, "service_config": {"pin": "482913"}}, "service")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a 482913 b", "a *** b"),
        ("passcode hunter2.", "passcode ***."),
        (
            "cut at 'xx4829'\N{HORIZONTAL ELLIPSIS} (70 long)",
            "cut at 'xx***'\N{HORIZONTAL ELLIPSIS} (70 long)",
        ),
        ("its end is hunt", "its end is ***"),
        ("48 rooms", "48 rooms"),
    ],
)
def test_masked(text: str, shown: str) -> None:
    request = make_request("service_configuration", third_party_passcode="hunter2")
    assert masked(text, request, FOUND) == shown


def test_a_passcode_of_many_characters_costs_little() -> None:
    """It took minutes, as a pattern was compiled for each beginning."""
    passcode = "7 letters" * 800
    request = make_request("service_configuration", third_party_passcode=passcode)
    cut = f"cut at '{passcode[:5000]}'\N{HORIZONTAL ELLIPSIS}"
    assert masked(cut * 2, request, FOUND) == "cut at '***'\N{HORIZONTAL ELLIPSIS}" * 2


def test_covered_keeps_the_length() -> None:
    assert covered('"pin": "482913", hunter2', ["hunter2"]) == '"pin": "******", *******'


def test_a_secret_that_holds_another_one_is_covered_whole() -> None:
    assert covered("is hunter2xyz", ["hunter2", "hunter2xyz"]) == "is **********"
