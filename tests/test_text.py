"""Suggestions for misspelt names: they never change the meaning."""

import pytest

from pexpolicy.text import did_you_mean, printable, printable_lines, suggest


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(("alow_guests", "allow_guests"), ("pni", "pin"), ("prot", "port"), ("romms", "rooms")),
        *(("cert", "certificate"), ("warn", "warning"), ("username", "user"), ("themes", "theme")),
        *(("on_eror", "on_error"), ("hostname", "host_name"), ("Guest PIN", "guest_pin")),
        *(("notequals", "not_equals"), ("not_equal", "not_equals"), ("pin_guest", "guest_pin")),
        *(("europe/olso", "Europe/Oslo"), ("INFO", "info"), ("nane", "name")),
    ],
)
def test_a_name_that_is_spelt_almost_the_same_is_suggested(written: str, meant: str) -> None:
    assert did_you_mean(written, [meant, "unlike"]) == f"; did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("written", "other"),
    [
        *(("not_between", "between"), ("nonbetween", "between"), ("notbetween", "between")),
        *(("host_pin", "guest_pin"), ("host_pin", "pin"), ("guest_pin", "pin")),
        *(("disabled", "enabled"), ("disallow_guests", "allow_guests"), ("no_guests", "guests")),
        *(("insecure", "secure"), ("unmuted", "muted"), ("include", "exclude")),
        *(("min_pin", "max_pin"), ("weekdays", "weekends"), ("inbound", "outbound")),
        *(("valid_to", "valid_from"), ("prefix", "suffix"), ("after", "before")),
        *(("max_callrate_in", "max_callrate_out"), ("not_one_of", "one_of"), ("not_less", "less")),
        *(("rotate_days", "rotate_mb"), ("rotate", "rotate_mb"), ("file", "sign_key_file")),
        *(("guests_cant_present", "guests_can_present"), ("--no-strict", "--strict")),
        *(("Etc/GMT+13", "Etc/GMT-13"), ("Europe/Ostrava", "Europe/Saratov"), ("x-21", "x-12")),
        *(("America/Boston", "America/St_Johns"), ("Asia/Kyoto", "Asia/Tokyo"), ("bcc", "bc")),
        *(("local", "location"), ("v1", "v2"), ("1.3", "1.2"), ("", "x"), ("x" * 100, "x" * 99)),
    ],
)
def test_a_name_of_another_meaning_is_not_suggested(written: str, other: str) -> None:
    assert did_you_mean(written, [other]) == ""


def test_without_a_similar_name_all_are_listed() -> None:
    assert suggest("bind", ["host", "port"]) == "; there are host, port"
    assert did_you_mean("etc/gmt+1", ["Etc/GMT-1", "Etc/GMT+1"]).endswith("'Etc/GMT+1'?")
    assert suggest("hsot", ["host", "port"]) == "; did you mean 'host'?"
    assert suggest("x", [str(number) for number in range(100)]).endswith("and 40 more")
    assert suggest("x", []) == ""


@pytest.mark.parametrize("hidden", ["\u202e", "\u2067", "\u200e", "\u200b", "\x1b", "\r", "\u2028"])
def test_what_hides_or_reorders_text_is_shown(hidden: str) -> None:
    assert printable(f"a{hidden}b") == "a\ufffdb"
    assert printable_lines(f"a{hidden}\nb") == "a\ufffd\nb"
    assert printable("\u592a\u3000\u90ce") == "\u592a\u3000\u90ce"
