"""The plugin as a server asks it."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from multidict import MultiDict

from pexpolicy import DirectoryInformationRequest
from tests.support.one_plugin import Built, complaints_of, policy_of

Search = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reply(settings: dict[str, Any], **params: str) -> dict[str, Any]:
    """The envelope of the reply to one search."""
    built = Built("directory", policy_of("directory", settings))
    (answer,) = built.answers([DirectoryInformationRequest(MultiDict(params))])
    found: dict[str, Any] = json.loads(answer.reply.body)
    return found


@pytest.fixture(scope="session")
def search() -> Search:
    """The aliases that a search finds, in order."""

    def search(settings: dict[str, Any], text: str, **params: str) -> list[str]:
        found = reply(settings, q=text, **params)
        return [entry["alias"] for entry in found["result"]]

    return search


@pytest.fixture(scope="session")
def problems() -> Callable[[dict[str, Any]], list[str]]:
    """What is reported of settings that cannot be used."""

    return partial(complaints_of, "directory")
