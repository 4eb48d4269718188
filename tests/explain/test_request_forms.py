"""Requests in the forms that people copy, whatever is in their parameters."""

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.explain.request_forms import (
    InvalidRequestError,
    RecordedRequest,
    read_request,
    with_parameters,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PAIRS = st.lists(st.tuples(TEXTS.filter(bool), TEXTS), max_size=6)
PATHS = st.sampled_from([e.path for e in ENDPOINTS.values()])


def forms_of(target: str) -> list[str]:
    """Return the records of a request that hold its whole target."""
    url = f"https://policy.example.com/below{target}"
    logged = f'2026-05-14T09:41:02Z Level="INFO" Message="Policy request" URL="{url}" Timeout="5"'
    escaped = logged.replace("&", "&amp;").replace('"', "&quot;").replace("'", "&#39;")
    return [
        url,
        logged,
        escaped,
        f'192.0.2.1 - - [26/Nov/2026:07:10:28 +0000] "GET {target} HTTP/1.1" 200 4',
        json.dumps({"time": "2026-11-26T07:10:28Z", "request": f"GET {target} HTTP/1.1"}),
    ]


@given(PATHS, TEXTS.filter(bool), PAIRS)
@example("/policy/v1/registrations", "a", [("a", "'")])
@example("/policy/v1/registrations/", "a/b?c&amp;", [("region", "&lt;'\""), ("a", "b")])
def test_each_form_holds_the_same_request(
    path: str, alias: str, pairs: list[tuple[str, str]]
) -> None:
    called = quote(alias, safe="") if path.endswith("/") else ""
    query = urlencode(pairs, safe="'")
    for form in forms_of(f"{path}{called}?{query}"):
        request = read_request(form)
        assert ENDPOINTS[request.endpoint].path == path
        assert request.alias == (alias if called else "")
        assert list(request.params.items()) == pairs
        assert not request.is_cut


@given(st.text(max_size=200) | st.text("{}\"':,/policyv1GETcurl URL=&;% \n", max_size=200))
@example('{"event": "decision", "endpoint": "media_location", "request": {"a": {"b": []}}}')
@example("http:///policy/v1/registrations")
@example("https://[/policy/v1/registrations")
@example('{"a": "GET /policy/v1/registrations"}')
def test_other_text_is_refused_and_nothing_else(text: str) -> None:
    try:
        with_parameters(read_request(text), {"q": ["a"]})
    except InvalidRequestError:
        return


@given(PAIRS, TEXTS)
def test_a_parameter_that_is_set_leaves_the_others(
    pairs: list[tuple[str, str]], value: str
) -> None:
    request = read_request(f"https://a.example/policy/v1/registrations?{urlencode(pairs)}")
    changed = with_parameters(request, {"registration_alias": [value, "b"]})
    others = [pair for pair in pairs if pair[0] != "registration_alias"]
    assert [*changed.params.items()] == [
        *others,
        ("registration_alias", value),
        ("registration_alias", "b"),
    ]
    assert with_parameters(request, {}) is request


@pytest.mark.parametrize("values", [[""], ["a", "b"]])
def test_the_alias_of_a_path_is_one_text(values: list[str]) -> None:
    request = read_request("/policy/v1/registrations/alice")
    with pytest.raises(InvalidRequestError, match="one text"):
        with_parameters(request, {"alias": values})


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("2026-11-26T07:10:28Z GET {}", 28),
        ("2026-11-26T08:10:28.5+01:00 GET {}", 28.5),
        ('"[26/Nov/2026:07:10:28 +0000]" GET {}', 28),
        ("99/Nov/2026:07:10:28 +0000 GET {}", None),
        ("no time GET {}?at=2026-11-26T07:10:28Z", None),
        ('{{"path": "{}", "time": "2026-11-26T08:10:28+01:00"}}', 28),
    ],
)
def test_the_time_is_the_first_one_before_the_request(line: str, seconds: float | None) -> None:
    found: RecordedRequest = read_request(line.format("/policy/v1/registrations"))
    minute = datetime(2026, 11, 26, 7, 10, tzinfo=UTC)
    assert found.at == (None if seconds is None else minute + timedelta(seconds=seconds))
