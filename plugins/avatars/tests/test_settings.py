"""Settings that are refused, and those that are warned of."""

from pathlib import Path
from typing import Any

import pytest

from pexpolicy.testing import ConfigError, make_policy, make_request
from pexpolicy_avatars import Avatars
from pexpolicy_avatars.settings import AvatarsSettings

GRAPH = {"tenant": "t", "client_id": "c"}


def problems(**settings: Any) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        make_policy((Avatars, settings))
    found = [str(problem) for problem in refused.value.problems]
    return [text.removeprefix("plugins.avatars.settings.") for text in found]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "there are no pictures: write folder, source, or a table http, graph or initials"),
        ({"initials": {}, "files": ["{user}.jpg"]}, "files belongs to a folder"),
        ({"folder": "p", "files": ["{name}.jpg"]}, "has {name}: the placeholders are {alias}, {u"),
        ({"folder": "p", "files": ["{user!r}.jpg"]}, "has {a format}: the placeholders are"),
        ({"folder": "p", "files": ["{user.jpg"]}, "has a single brace"),
        ({"folder": "p", "files": ["photo.jpg"]}, "leads everybody to the same picture"),
        ({"folder": "p", "files": ["../{user}.jpg"]}, "is the name of a file, without folders"),
        ({"folder": "p", "files": ["{user}.txt"]}, "must end with .jpg, .jpeg, .png"),
        (
            {"http": {"url": "http://{host}/x.jpg"}},
            "may be in the path or query of the URL, and not",
        ),
        ({"http": {"url": "http://a.example/{user}#x"}}, "what follows a # is not sent"),
        ({"http": {"url": "ftp://a.example/{user}"}}, "write a whole URL"),
        ({"http": {"url": "https://u:p@a.example/{user}"}}, "credentials are never in this file"),
        ({"http": {"url": "http://a.example/{user}", "user": "a"}}, "user and a password belong"),
        (
            {"http": {"url": "https://a.example/{user}", "ca_file": "missing.pem"}},
            "http.ca_file: missing.pem cannot be used: No such file or directory",
        ),
        ({"graph": GRAPH}, "write secret_env (a variable) or secret_file (a path)"),
        (
            {"graph": {**GRAPH, "secret_env": "PATH", "endpoint": "graph"}},
            "graph.endpoint: write a whole URL",
        ),
        ({"initials": {"colors": ["#12"]}}, "initials.colors[0]: '#12' is no colour"),
        (
            {"initials": {"font": "missing.ttf"}},
            "initials.font: missing.ttf cannot be used: No suc",
        ),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(settings: dict[str, Any], says: str) -> None:
    (problem,) = problems(**settings)
    assert says in problem


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "font").write_text("no font")
    found = problems(
        http={"url": "http://a.example/{user}", "token_env": "AVATARS_UNSET"},
        graph={**GRAPH, "secret_env": "AVATARS_UNSET"},
        initials={"font": str(tmp_path / "font"), "colors": ["nonsense"]},
    )
    starts = ["http.token_env", "graph.secret_env", "initials.colors[0]", "initials.font"]
    assert [problem.partition(":")[0] for problem in found] == starts


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"folder": "."}, "files"),
        ({"http": {"url": "https://a.example/{user}"}}, "http.url"),
        ({"graph": {**GRAPH, "secret_env": "A", "user": "{user}@b"}}, "graph.user"),
    ],
)
def test_pictures_for_people_of_any_domain_are_warned_of(
    settings: dict[str, Any], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A", "a secret")
    (warning,) = make_policy((Avatars, settings)).warnings
    assert str(warning).startswith(f"plugins.avatars.settings.{key}: ")
    assert "a caller of any domain" in str(warning)
    assert not make_policy((Avatars, {**settings, "domains": ["example.com"]})).warnings


def test_readable_credentials_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "a secret")
    for url, count in [("http://a.example/{alias}", 1), ("https://a.example/{alias}", 0)]:
        made = make_policy((Avatars, {"http": {"url": url, "token_env": "A"}}))
        assert len(made.warnings) == count
    for key in ("authority", "endpoint"):
        for url, count in [("http://a.example", 1), ("http://127.0.0.1:1", 0)]:
            graph = {**GRAPH, "secret_env": "A", key: url}
            made = make_policy((Avatars, {"graph": graph}))
            assert sum(f"graph.{key}: " in str(warning) for warning in made.warnings) == count


async def test_the_status_has_the_size_of_the_cache(folder: Path) -> None:
    plugin = Avatars(AvatarsSettings.model_validate({"folder": str(folder), "initials": {}}))
    async with plugin.lifespan():
        await plugin.participant_avatar(make_request("participant_avatar", alias="anna"))
        status = dict(await plugin.status())
    assert status.pop("cache_bytes") in range(500, 5000)
    assert status == {"sources": ["folder"], "pictures": 1, "renderings": 1, "fetching": 0}
