"""The pages Try a request and Who gets what: answers of the configuration on the disk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlencode

import click
from aiohttp import hdrs, web

from pexpolicy.cli.for_console import parameters_of, parse_changes
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.testing.requests import shape_names_of
from pexpolicy_console.context import console_of
from pexpolicy_console.forms import form_of
from pexpolicy_console.index.index import IndexUnavailable
from pexpolicy_console.index.lines import ACCEPTED, FAILED, REFUSED, RESULTS
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import Hit, IndexReader
from pexpolicy_console.pages.decisions import Row, row_of
from pexpolicy_console.pages.page import Page, dry_run, record, record_view, render
from pexpolicy_console.periods import time_of_question
from pexpolicy_console.roles import Role

FIELDS = ("request", "endpoint", "shape", "parameters", "at", "zone")
VALUE = "p."
"""What the name of a field with a value of a recorded call begins with."""
USUAL = {
    "local_alias": "Called",
    "alias": "Called",
    "remote_alias": "Caller",
    "protocol": "Protocol",
    "remote_address": "From",
    "location": "Location",
}
"""Parameters that people change, and their names on the page."""
EXAMPLES = (
    {"endpoint": "service_configuration", "result": REFUSED},
    {"endpoint": "service_configuration", "result": FAILED},
    {"endpoint": "service_configuration", "result": ACCEPTED},
    {"endpoint": "participant_properties"},
    {"endpoint": "media_location"},
    {"endpoint": "registration_alias"},
)
"""The calls of the last day of which the newest are offered as examples."""
MAX_QUERY = 6000
"""Characters of a question that is kept in the URL of its answer."""
_PASTED = re.compile(r"[?{\s]")


class Value(NamedTuple):
    """A parameter of a recorded call."""

    name: str
    label: str
    then: str
    now: str


async def form(request: web.Request) -> web.StreamResponse:
    """Show the form, with what another page fills in, and its answer."""
    return await _answered(request, request.query)


async def answer(request: web.Request) -> web.StreamResponse:
    """Lead to the page with the answer; answer at once what is too long for a URL, or a line or URL
    that was pasted: it may hold a secret, and the browser keeps what it visits.
    """
    written = form_of(request)
    found = {name: written[name] for name in FIELDS if written.get(name, "").strip()}
    event = await _recorded(request, found.get("request", ""))
    changed = (one for one in _values(event, written) if one.now != one.then)
    url = "/try?" + urlencode({**found, **{VALUE + one.name: one.now for one in changed}})
    if len(url) <= MAX_QUERY and not _PASTED.search(found.get("request", "")):
        raise web.HTTPSeeOther(url)
    return await _answered(request, written)


async def _answered(request: web.Request, written: Mapping[str, str]) -> web.StreamResponse:
    given = {name: written.get(name, "").strip() for name in FIELDS}
    if not given["request"]:
        return _page(request, given, examples=await _examples(request))
    record(request, "try", text=given["request"][:1000], endpoint=given["endpoint"])
    event = await _recorded(request, given["request"])
    values = _values(event, written)
    page = partial(_page, request, given, event=event, values=values)
    try:
        question = _question(given, values)
    except click.UsageError as error:
        return page(failures=[error.message])
    except ValueError as error:
        return page(failures=[str(error)])
    walk, failures = await dry_run(request, "explain", **question)
    return page(walk=walk, failures=failures)


async def _recorded(request: web.Request, text: str) -> Mapping[str, Any] | None:
    """Return the line of a decision by its identifier; ``None`` for what is none."""
    with suppress(IndexUnavailable):
        hit = await console_of(request).index.ask(lambda reader: reader.decision(text.strip()))
        return None if hit is None else hit.event
    return None


def _values(event: Mapping[str, Any] | None, written: Mapping[str, str]) -> list[Value]:
    """Return the parameters of a recorded call, those that people change first."""
    facts = {} if event is None else event.get("request") or {}
    found = [
        Value(name, USUAL.get(name, name), then, written.get(VALUE + name, then).strip())
        for name, then in facts.items()
        if isinstance(then, str)
    ]
    order = {name: number for number, name in enumerate(USUAL)}
    return sorted(found, key=lambda one: order.get(one.name, len(order)))


async def _examples(request: web.Request) -> list[tuple[Row, str]]:
    """Return the newest call of each kind, and what became of it."""
    record_view(request)

    def newest(reader: IndexReader) -> list[Hit]:
        queries = [Query(**one, since="1d") for one in EXAMPLES]
        return [hit for query in queries for hit in reader.search(query, limit=1) if hit.event]

    with suppress(IndexUnavailable):
        hits = await console_of(request).index.ask(newest)
        return [(row_of(hit), "" if hit.result is None else RESULTS[hit.result]) for hit in hits]
    return []


def _question(given: Mapping[str, str], values: Iterable[Value]) -> dict[str, Any]:
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
        "changes": parse_changes(lines)
        | {one.name: [one.now] for one in values if one.now != one.then},
        "at": time_of_question(given["at"], given["zone"]),
    }


def _page(
    request: web.Request,
    given: Mapping[str, str],
    *,
    walk: dict[str, Any] | None = None,
    failures: list[str] | None = None,
    event: Mapping[str, Any] | None = None,
    values: Sequence[Value] = (),
    examples: Sequence[tuple[Row, str]] = (),
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
        event=event,
        usual=[one for one in values if one.name in USUAL],
        others=[one for one in values if one.name not in USUAL],
        changed=[one for one in values if one.now != one.then],
        examples=examples,
    )


async def walk(request: web.Request) -> web.StreamResponse:
    """Show why the configuration on the disk answers a recorded call as it does."""
    decision_id = request.match_info["decision_id"]
    record(request, "try", text=decision_id, endpoint="")
    found, failures = await dry_run(request, "explain", request=decision_id)
    return render(request, "decision_walk.html", walk=found, failures=failures)


async def who(request: web.Request) -> web.StreamResponse:
    """Look one alias up."""
    alias = request.query.get("alias", "").strip()
    caller, at, zone = (request.query.get(name, "").strip() for name in ("caller", "at", "zone"))
    found: dict[str, Any] | None = None
    failures: list[str] = []
    if alias:
        record(request, "look up", alias=alias[:250], caller=caller[:250])
        try:
            moment = time_of_question(at, zone)
            asked = {"alias": alias, "caller": caller, "at": moment}
            found, failures = await dry_run(request, "look_up", **asked)
        except ValueError as error:
            failures = [str(error)]
    given: dict[str, Any] = {"alias": alias, "caller": caller, "at": at, "zone": zone}
    return render(request, "who.html", **given, found=found, failures=failures)


PAGES = (
    Page("/try", form, "Try a request", Role.OPERATOR),
    Page("/try", answer, "", Role.OPERATOR, hdrs.METH_POST),
    Page("/decisions/{decision_id}/walk", walk, "", Role.OPERATOR),
    Page("/who", who, "Who gets what", Role.OPERATOR),
)
