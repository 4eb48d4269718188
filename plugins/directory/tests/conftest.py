"""The plugin as a server asks it."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from multidict import MultiDict

from pexpolicy import DirectoryInformationRequest
from pexpolicy.builder import build_policy
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError
from tests.support import installed

Search = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the configuration."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reply(settings: dict[str, Any], **params: str) -> dict[str, Any]:
    """The envelope of the reply to one search."""
    document = {"plugins": {"directory": {"settings": settings}}}
    policy = build_policy(
        from_document(document, Path("config.toml"), "0" * 16), available=installed.plugins()
    )

    async def answer() -> Any:
        async with policy.serving():
            request = DirectoryInformationRequest(MultiDict(params))
            return await policy.answer(request, "an id")

    found: dict[str, Any] = json.loads(asyncio.run(answer()).reply.body)
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

    def reported(settings: dict[str, Any]) -> list[str]:
        with pytest.raises(ConfigError) as refused:
            reply(settings)
        return [str(problem) for problem in refused.value.problems]

    return reported
