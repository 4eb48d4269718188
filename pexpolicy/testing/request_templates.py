"""Request templates: the parameters that a Conferencing Node sends for each kind of call."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from yarl import URL

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.text import did_you_mean

_FILE = Path(__file__).with_name("request_templates.toml")


class RequestError(ValueError):
    """A request that cannot be made; ``key`` is the faulty endpoint, shape or field."""

    def __init__(self, key: tuple[str, ...], text: str) -> None:
        super().__init__(f"{key[-1]}: {text}")
        self.key = key
        self.text = text


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """Parameters of one request by their names on the wire, and the decoded alias of its path."""

    params: Mapping[str, tuple[str, ...]]
    alias: str


def shape_of(endpoint: str, name: str | None) -> RequestTemplate:
    """Return a shape by name, or the default one of the endpoint; raises ``RequestError``."""
    if endpoint not in ENDPOINTS:
        guess = did_you_mean(endpoint, ENDPOINTS) or f"; write one of {', '.join(ENDPOINTS)}"
        raise RequestError(("endpoint",), f"there is no endpoint {endpoint!r}{guess}")
    shapes = _shapes()[endpoint]
    if name is None:
        return next(iter(shapes.values()))
    if name not in shapes:
        guess = did_you_mean(name, shapes) or f"; write one of {', '.join(shapes)}"
        raise RequestError(("shape",), f"{endpoint} has no shape {name!r}{guess}")
    return shapes[name]


def shape_names_of(endpoint: str) -> tuple[str, ...]:
    """Return the names of all shapes of an endpoint, the default first."""
    return tuple(_shapes()[endpoint])


@functools.cache
def _shapes() -> Mapping[str, Mapping[str, RequestTemplate]]:
    shapes: dict[str, dict[str, RequestTemplate]] = {}
    for table in tomllib.loads(_FILE.read_text(encoding="utf-8"))["shape"]:
        name = table["endpoint"]
        shapes.setdefault(name, {})[table["name"]] = _shape(URL(table["url"], encoded=True), name)
    return shapes


def _shape(url: URL, endpoint: str) -> RequestTemplate:
    params: dict[str, tuple[str, ...]] = {}
    for name, value in url.query.items():
        params[name] = (*params.get(name, ()), value)
    return RequestTemplate(params, unquote(url.raw_path.removeprefix(ENDPOINTS[endpoint].path)))
