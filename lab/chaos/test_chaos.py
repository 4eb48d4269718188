import pytest

from lab.chaos.plugins import CASES
from lab.chaos.run import run

TELLING = (
    "raises an exception whose text raises SystemExit",
    "swallows cancellation",
    "observer raises",
    "leaks tasks that exit",
    "isolated: os._exit",
)
BY_NAME = {case.name: case for case in CASES}


def test_no_two_plugins_of_the_matrix_have_the_same_name() -> None:
    assert len(BY_NAME) == len(CASES)


@pytest.mark.parametrize("name", TELLING)
def test_a_plugin_that_misbehaves_harms_no_other(name: str) -> None:
    assert run(BY_NAME[name], seconds=0.5).wrong == []
