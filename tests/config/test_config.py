"""The configuration: strict, with every error at once, by its key and what to write instead."""

from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pexpolicy.builder import build_policy, policy_from
from pexpolicy.config.loader import from_document, load
from pexpolicy.config.problems import dotted_key
from pexpolicy.config.schema import EndpointName
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.endpoints import ENDPOINTS
from tests.support import live_server


def loaded(folder: Path, text: str) -> Settings:
    path = folder / "config.toml"
    path.write_text(text)
    return load(path)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        loaded(folder, text)
    assert all(
        line.startswith(f"{folder / 'config.toml'}: ") for line in str(error.value).splitlines()
    )
    return [str(problem) for problem in error.value.problems]


def test_the_names_of_endpoints_in_the_configuration_are_those_that_there_are() -> None:
    assert get_args(EndpointName) == tuple(ENDPOINTS)


def test_an_empty_file_has_every_default(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "")
    server = settings.server
    assert (server.host, server.port, server.budget) == ("127.0.0.1", 8000, 4.0)
    assert server.base_path == ""
    assert not server.allow_anonymous
    assert settings.plugins == {}
    assert settings.credentials == ()
    assert settings.audit.path is None


def test_a_plugin_table_has_every_default(tmp_path: Path) -> None:
    table = loaded(tmp_path, "[plugins.rooms]").plugins["rooms"]
    assert (table.priority, table.timeout, table.on_error) == (100, 1.0, "skip")
    assert table.settings == {}


def test_the_shipped_file_is_valid_and_asks_domains_before_rooms() -> None:
    policy = build_policy(load(live_server.SHIPPED))
    assert [plugin.name for plugin in policy.plugins] == ["domains", "rooms"]
    assert policy.settings.plugins["domains"].on_error == "reject"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[tracing]\nendpoint = 'collector/v1?key=hunter2'", "tracing.endpoint"),
        ("[tracing]\nendpoint = 'https//me:hunter2@collector'", "tracing.endpoint"),
        (
            "[plugins.upstream.settings.targets.t]\nurl = 'http://a'\nuser = 'me:hunter2'",
            "targets.t.user",
        ),
    ],
)
def test_a_malformed_user_or_url_is_not_repeated(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        policy_from(path)
    assert f"{key}: " in str(error.value)
    assert "hunter2" not in str(error.value)


TYPOS = [
    *(
        (f"[server]\n{written}", f"server.{written.split()[0]}", said)
        for written, said in (
            ("prot = 1", "did you mean 'port'?"),
            ("buget = 1.0", "did you mean 'budget'?"),
            ("allow_anonymus = true", "did you mean 'allow_anonymous'?"),
            ("port = 70000", "65535, not 70000"),
            ("port = -1", "not -1"),
            ("port = true", "whole number, not True"),
            ("port = 80.5", "not 80.5"),
            ("host = 1", "text, not 1; write it in quotes"),
            ("budget = 5.0", "4.5, not 5.0"),
            ("budget = 0.0", "greater than 0, not 0.0"),
            ("budget = nan", "not nan"),
            ("budget = inf", "not inf"),
            ("base_path = 'api'", "begin with a slash"),
            ("base_path = '/api/'", "begin with a slash"),
            ("base_path = '/a b'", "begin with a slash"),
        )
    ),
    ("[sever]", "sever", "did you mean 'server'?"),
    ("[auth]\nuser = 'a'", "auth", "password_env"),
    ("[auth]\nuser = 'a'\npassword_env = 'A'\npassword_file = 'b'", "auth", "password_env"),
    ("[auth]\nuser = 'a:b'\npassword_env = 'A'", "auth.user", "must not contain a colon"),
    ("[auth]\nuser = ''\npassword_env = 'A'", "auth.user", "at least 1"),
    ("[auth]\nuser = 'a'\npassword_env = 'UNSET_47'", "auth.password_env", "UNSET_47 is not set"),
    ("[auth]\nuser = 'a'\npassword_file = 'gone'", "auth.password_file", "gone cannot be read: No"),
    (
        "[privacy]\npersonal = 'hashed'\nkey_file = 'gone'",
        "privacy.key_file",
        "gone cannot be read",
    ),
    ("[plugins.rooms]\ntimeout = 0", "plugins.rooms.timeout", "equal to 0.001, not 0"),
    ("[plugins.rooms]\nthreads = 0", "plugins.rooms.threads", "not 0"),
    ("[plugins.rooms]\nsetings = {}", "plugins.rooms.setings", "did you mean 'settings'?"),
    ("[plugins]\nrooms = 1", "plugins.rooms", "not 1"),
    ("[endpoints.calls]", "endpoints.calls", "; there are service_configuration, participant_prop"),
    ("[endpoints.media_location]\ndefault = 'reject'", "media_location.default", "leave it out"),
    ("[infinity]\nlocation = []", "infinity.location", "'locations'"),
    ("[infinity]\nlocations = [1]", "infinity.locations[0]", "text, not 1"),
]


@pytest.mark.parametrize(("text", "key", "advice"), TYPOS)
def test_a_mistake_is_named_by_its_key_and_what_to_write_instead(
    tmp_path: Path, text: str, key: str, advice: str
) -> None:
    (problem,) = problems(tmp_path, text)
    assert f"{key}: " in problem
    assert advice in problem


def test_every_error_is_reported_at_once(tmp_path: Path) -> None:
    wrong = [text for text, *_ in TYPOS if text.startswith("[plugins.rooms]")]
    text = "[server]\nport = 'x'\nprot = 1\nbudget = 9.0\n[audit]\npth = ''\n" + "\n".join(
        line.replace("rooms", f"rooms{number}") for number, line in enumerate(wrong)
    )
    assert len(problems(tmp_path, text)) == 4 + len(wrong)


@pytest.mark.parametrize(
    ("text", "place", "advice"),
    [
        ("host = 127.0.0.1\n", (1, 13), "in quotes"),
        ("host = localhost # here", (1, 8), "in quotes"),
        ("names = [Oslo]", (1, 10), "in quotes"),
        ("pin = 0042\r\n", (1, 8), "in quotes"),
        ('host = "x\n', (1, 10), "a closing quote"),
        ("port = 1\nhost = 'x\n", (2, 1), "a closing quote"),
        ('host = """x', (1, 1), "a closing quote"),
        ("all = [\n  False,\n]", (2, 3), "lower case"),
        ("x = [", None, "Invalid value"),
        ("x = [\n[server]\nport = 1", (2, 2), "Invalid value"),
        ("a = 1\na = 2\n", (2, 6), "once"),
        ('[p."a)b"]\n[c]\n[ p."a)b" ]', (3, 11), "twice"),
        ('a = "\\d"', (1, 8), "single quotes"),
        ("[plugins.rooms\n", (1, 15), "]"),
        ("[rooms.sip:a@b]", (1, 11), "in quotes"),
    ],
)
def test_what_is_no_toml_has_a_place_and_what_to_write(
    tmp_path: Path, text: str, place: tuple[int, int] | None, advice: str
) -> None:
    (tmp_path / "config.toml").write_text(text, newline="")
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "config.toml")
    (problem,) = error.value.problems
    assert problem.text.startswith("is not valid TOML: ")
    assert advice in problem.text
    assert problem.at == place


@given(st.text(alphabet="ab =[]{}\"'\\,.\n#0T\r", max_size=40))
def test_whatever_is_no_toml_is_reported(text: str) -> None:
    with suppress(ConfigError):
        load(Path("config.toml"), content=text.encode())


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / name)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "[audit]\npath = 'logs/audit.jsonl'")
    assert settings.resolve("logs/audit.jsonl") == tmp_path / "logs/audit.jsonl"
    assert settings.resolve("/var/log/a") == Path("/var/log/a")


def test_the_password_is_read_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_POLICY_PASSWORD", "s3cret")
    settings = loaded(tmp_path, "[auth]\nuser = 'a'\npassword_env = 'TEST_POLICY_PASSWORD'")
    (credential,) = settings.credentials
    assert isinstance(credential.secret, SecretStr)
    assert credential.secret.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_password_file_without_a_password_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "password.txt").write_bytes(content)
    (problem,) = problems(tmp_path, "[auth]\nuser = 'a'\npassword_file = 'password.txt'")
    assert problem.startswith("auth.password_file: ")


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ((), ""),
        (("server", "port"), "server.port"),
        (("rooms", "sip:a@b", "name"), 'rooms."sip:a@b".name'),
        (("locations", 2), "locations[2]"),
    ],
)
def test_a_key_is_written_as_in_the_file(key: tuple[str | int, ...], written: str) -> None:
    assert dotted_key(key) == written


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)
KEYS = st.sampled_from(
    ["server", "auth", "audit", "infinity", "endpoints", "plugins", "port", "settings", "rooms"]
)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS | st.text(), VALUES) | VALUES))
def test_any_document_is_settings_or_a_list_of_errors(document: dict[str, Any]) -> None:
    with suppress(ConfigError):
        from_document(document, Path("config.toml"))


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://Console.Example.com", "https://console.example.com"),
        ("https://console.example.com:443", "https://console.example.com"),
        ("http://console.example.com:80", "http://console.example.com"),
        ("https://console.example.com:4430", "https://console.example.com:4430"),
        ("https://[::1]:443", "https://[::1]"),
    ],
)
def test_the_url_of_the_console_is_as_browsers_send_it(
    tmp_path: Path, written: str, sent: str
) -> None:
    assert loaded(tmp_path, f'[console]\nurl = "{written}"\n').console.url == sent


def test_the_url_of_the_console_names_no_user(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, '[console]\nurl = "https://ann@console.example.com"\n')
    assert "console.url" in problem
