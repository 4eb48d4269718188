"""The pages Try a request and Who gets what: answers of the configuration on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from aiohttp import hdrs, web

from pexpolicy.cli.for_console import parameters_of, parse_changes
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.testing.requests import shape_names_of
from pexpolicy_console.forms import form_of
from pexpolicy_console.pages.page import Page, dry_run, record, render
from pexpolicy_console.periods import time_of_question
from pexpolicy_console.roles import Role

FIELDS = ("request", "endpoint", "shape", "parameters", "at", "zone")


async def form(request: web.Request) -> web.StreamResponse:
    """Show the form, with what another page fills in, and its answer."""
    return await _answered(request, request.query)


async def answer(request: web.Request) -> web.StreamResponse:
    """Answer the request of the form, and show the form again."""
    return await _answered(request, form_of(request))


async def _answered(request: web.Request, written: Mapping[str, str]) -> web.StreamResponse:
    given = {name: written.get(name, "").strip() for name in FIELDS}
    if not given["request"]:
        return _page(request, given)
    record(request, "try", text=given["request"][:1000], endpoint=given["endpoint"])
    try:
        question = _question(given)
    except click.UsageError as error:
        return _page(request, given, failures=[error.message])
    except ValueError as error:
        return _page(request, given, failures=[str(error)])
    walk, failures = await dry_run(request, "explain", **question)
    return _page(request, given, walk=walk, failures=failures)


def _question(given: Mapping[str, str]) -> dict[str, Any]:
    """Return the question of a form; raise ``UsageError`` for parameters without a value,
    ``ValueError`` for an unknown zone.
    """
    lines = tuple(line.strip() for line in given["parameters"].splitlines() if line.strip())
    for line in lines:
        if "=" not in line:
            msg = f"{line[:100]!r} has no value: write one parameter a line, as in registered=True"
            raise click.UsageError(msg)
    return {
        "request": given["request"],
        "endpoint": given["endpoint"] or None,
        "shape": given["shape"],
        "changes": parse_changes(lines),
        "at": time_of_question(given["at"], given["zone"]),
    }


def _page(
    request: web.Request,
    given: Mapping[str, str],
    *,
    walk: dict[str, Any] | None = None,
    failures: list[str] | None = None,
) -> web.StreamResponse:
    endpoint = given["endpoint"] if given["endpoint"] in ENDPOINTS else ""
    parameters = parameters_of(ENDPOINTS[endpoint].request) if endpoint else {}
    return render(
        request,
        "try.html",
        given={**given, "endpoint": endpoint},
        endpoints=list(ENDPOINTS),
        shapes=shape_names_of(endpoint) if endpoint else (),
        parameters=sorted(parameters),
        takes_search=endpoint == "directory_information",
        walk=walk,
        failures=failures or [],
    )


async def who(request: web.Request) -> web.StreamResponse:
    """Look one alias up."""
    alias = request.query.get("alias", "").strip()
    at, zone = (request.query.get(name, "").strip() for name in ("at", "zone"))
    found: dict[str, Any] | None = None
    failures: list[str] = []
    if alias:
        record(request, "look up", alias=alias[:250])
        try:
            moment = time_of_question(at, zone)
            found, failures = await dry_run(request, "look_up", alias=alias, at=moment)
        except ValueError as error:
            failures = [str(error)]
    return render(
        request, "who.html", alias=alias, at=at, zone=zone, found=found, failures=failures
    )


PAGES = (
    Page("/try", form, "Try a request", Role.OPERATOR),
    Page("/try", answer, "", Role.OPERATOR, hdrs.METH_POST),
    Page("/who", who, "Who gets what", Role.OPERATOR),
)
