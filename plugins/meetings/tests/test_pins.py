"""PINs: how they are made, and how they are stored."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from pexpolicy import SettingsError
from pexpolicy.background.shared_state import SqliteState
from pexpolicy_meetings.pins import KEY_FILE, Pins, WrongKeyError, made_pin
from tests.support.booked import at

DAYS = (at("08:00:00"), at("09:00:00"))
KEY = SecretStr("0123456789abcdef" * 2)


def opened(folder: Path | None, key: SecretStr | None = None) -> Pins:
    pins = Pins(key)
    pins.open(SqliteState(folder and folder / "shared.sqlite"))
    return pins


def test_a_pin_is_opened_by_its_key_for_its_meeting_only(tmp_path: Path) -> None:
    sealed = opened(None, KEY).seal("471100", "acme\ncrm-7")
    assert "471100" not in sealed
    assert opened(None, KEY).unseal(sealed, "acme\ncrm-7") == "471100"
    for pins, about in ((opened(None, KEY), "acme\ncrm-8"), (opened(tmp_path), "acme\ncrm-7")):
        with pytest.raises(WrongKeyError):
            pins.unseal(sealed, about)
    with pytest.raises(WrongKeyError):
        opened(None, KEY).unseal("no base64", "acme\ncrm-7")


def test_workers_make_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: opened(tmp_path).digest("x"), range(8)))
    assert len(found) == 1
    (file,) = tmp_path.iterdir()
    assert file.name == KEY_FILE
    assert file.stat().st_mode & 0o777 == 0o600


def test_servers_that_share_a_database_need_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SqliteState, "is_remote", True)
    with pytest.raises(SettingsError, match="key_file"):
        opened(None)


def test_pins_are_even_and_never_what_can_be_guessed() -> None:
    alias = "8123456@acme.example.com"
    made = [made_pin(4, other="4711", aliases=[alias], days=DAYS) for _ in range(20_000)]
    assert not {"4711", "8123", "1234", "0106", "0601", "2030", "3105"} & set(made)
    first = Counter(pin[0] for pin in made)
    assert all(1800 < first[digit] < 2200 for digit in "0123456789")


def test_a_pipe_in_the_place_of_the_key_ends_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / KEY_FILE)
    with pytest.raises(OSError, match="not a regular file"):
        opened(tmp_path)
