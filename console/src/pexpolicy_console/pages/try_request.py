"""The pages Try a request and Who gets what: answers of the configuration on the disk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from aiohttp import hdrs, web

from pexpolicy.cli.for_console import parameters_of
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.testing.requests import shape_names_of
from pexpolicy_console.context import Page, Response, Visit
from pexpolicy_console.index.lines import ACCEPTED, FAILED, REFUSED, Event
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import Hit, IndexReader
from pexpolicy_console.login.sessions import Role
from pexpolicy_console.pages.decisions import Row
from pexpolicy_console.periods import time_of_question

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
    "vendor": "Device",
}
"""Parameters that people change, and their names on the page."""
EXAMPLES = (
    *({"endpoint": "service_configuration", "result": one} for one in (REFUSED, FAILED, ACCEPTED)),
    *({"endpoint": one} for one in ("participant_properties", "media_location")),
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


async def answer(visit: Visit) -> Response:
    """Lead to the page with the answer; answer at once what is too long for a URL, or a line or URL
    that was pasted: it may hold a secret, and the browser keeps what it visits.
    """
    found = {name: visit.form[name] for name in FIELDS if visit.form.get(name, "").strip()}
    event = await _recorded(visit, found.get("request", ""))
    changed = (one for one in _values(event, visit.form) if one.now != one.then)
    url = "/try?" + urlencode({**found, **{VALUE + one.name: one.now for one in changed}})
    if len(url) <= MAX_QUERY and not _PASTED.search(found.get("request", "")):
        raise web.HTTPSeeOther(url)
    return await form(visit, visit.form)


async def form(visit: Visit, sent: Mapping[str, str] | None = None) -> Response:
    """Show the form, with what was sent or is in the URL, and its answer."""
    written = visit.request.query if sent is None else sent
    given = {name: written.get(name, "").strip() for name in FIELDS}
    event = walk = None
    values, examples = list[Value](), list[Hit]()
    if given["request"]:
        visit.record("try", text=given["request"][:1000], endpoint=given["endpoint"])
        event = await _recorded(visit, given["request"])
        values = _values(event, written)
        try:
            walk = await visit.dry_run("explain", **_question(given, values))
        except ValueError as error:
            visit.failures.append(str(error))
    else:
        visit.record_view()
        examples = await visit.search(_newest) or []
    endpoint = given["endpoint"] if given["endpoint"] in ENDPOINTS else ""
    return visit.render(
        "try.html",
        given={**given, "endpoint": endpoint},
        endpoints=list(ENDPOINTS),
        shapes=shape_names_of(endpoint) if endpoint else (),
        parameters=sorted(parameters_of(ENDPOINTS[endpoint].request)) if endpoint else (),
        takes_search=endpoint == "directory_information",
        walk=walk,
        event=event,
        usual=[one for one in values if one.name in USUAL],
        others=[one for one in values if one.name not in USUAL],
        changed=[one for one in values if one.now != one.then],
        examples=[Row(hit) for hit in examples],
    )


async def _recorded(visit: Visit, text: str) -> Event | None:
    """Return the line of a decision by its identifier; ``None`` for what is none."""
    hit = await visit.search(IndexReader.decision, text.strip())
    return None if hit is None else hit.event


def _values(event: Event | None, written: Mapping[str, str]) -> list[Value]:
    """Return the parameters of a recorded call, those that people change first."""
    facts = (event or {}).get("request") or {}
    return [
        Value(name, USUAL.get(name, name), then, written.get(VALUE + name, then).strip())
        for name in sorted(facts, key=lambda name: [*USUAL, name].index(name))
        if isinstance(then := facts[name], str)
    ]


def _newest(reader: IndexReader) -> list[Hit]:
    """Return the newest call of each kind."""
    queries = [Query(**one, since="1d") for one in EXAMPLES]
    return [hit for query in queries for hit in reader.search(query, limit=1) if hit.event]


def _question(given: Mapping[str, str], values: Iterable[Value]) -> dict[str, Any]:
    """Return the question of a form; raise ``ValueError``."""
    changes: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, given["parameters"].splitlines())):
        name, equals, value = line.partition("=")
        if not (name and equals):
            msg = f"{line[:100]!r} has no value: write one parameter a line, as in registered=True"
            raise ValueError(msg)
        changes.setdefault(name, []).append(value)
    return {
        "request": given["request"],
        "endpoint": given["endpoint"] or None,
        "shape": given["shape"],
        "changes": changes | {one.name: [one.now] for one in values if one.now != one.then},
        "at": time_of_question(given["at"], given["zone"]),
    }


async def walk(visit: Visit) -> Response:
    """Show why the configuration on the disk answers a recorded call as it does."""
    decision_id = visit.request.match_info["decision_id"]
    visit.record("try", text=decision_id, endpoint="")
    found = await visit.dry_run("explain", request=decision_id)
    return visit.render("decision_walk.html", walk=found)


async def who(visit: Visit) -> Response:
    """Look one alias up."""
    given: dict[str, Any] = {name: visit.text(name) for name in ("alias", "caller", "at", "zone")}
    alias, caller, found = given["alias"], given["caller"], None
    if alias:
        visit.record("look up", alias=alias[:250], caller=caller[:250])
        try:
            at = time_of_question(given["at"], given["zone"])
            found = await visit.dry_run("look_up", alias=alias, caller=caller, at=at)
        except ValueError as error:
            visit.failures.append(str(error))
    return visit.render("who.html", **given, found=found)


PAGES = (
    Page("/try", form, "Try a request", Role.OPERATOR),
    Page("/try", answer, "", Role.OPERATOR, hdrs.METH_POST),
    Page("/decisions/{decision_id}/walk", walk, "", Role.OPERATOR),
    Page("/who", who, "Who gets what", Role.OPERATOR),
)
