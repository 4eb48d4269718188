"""Each kind of attack on the console finds nothing; the browser finds what is planted."""

from pathlib import Path

from lab.console_attacks import run


def test_texts_of_calls_become_no_markup(tmp_path: Path) -> None:
    for count in run.with_markup(tmp_path, 60, 12):
        assert count.tried, str(count)
        assert not count.found, str(count)


def test_requests_of_no_user_do_nothing(tmp_path: Path) -> None:
    for count in run.with_requests(tmp_path, 120, 60):
        assert count.tried, str(count)
        assert not count.found, str(count)


def test_no_page_and_no_file_holds_a_secret(tmp_path: Path) -> None:
    for count in run.with_secrets(tmp_path / "secrets"):
        assert count.tried > 1000
        assert not count.found, str(count)
