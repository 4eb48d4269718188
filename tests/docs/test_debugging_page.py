"""The page on debugging: its test passes."""

from tests.support import samples

PAGE = "debugging.md"


@samples.covers(PAGE, "In a test")
def test_the_test_of_the_page_passes() -> None:
    told = samples.section(PAGE, "In a test")
    told.names["test_a_call_without_a_tag"]()
