"""Requests that the kit makes: parameters, values and URLs as Infinity sends them."""

import json
import re
from typing import Any
from urllib.parse import parse_qsl

import pytest

from pexpolicy import ServiceConfigurationRequest
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.testing import ABSENT, RequestError, make_request, url_of
from pexpolicy.testing.requests import shape_names_of
from tests.support import live_server

SAMPLES = [
    json.loads(line)
    for line in (live_server.ROOT / "tests/data/samples.jsonl").read_text().splitlines()
]
SHAPES = [(endpoint, shape) for endpoint in ENDPOINTS for shape in shape_names_of(endpoint)]


def service(**fields: Any) -> ServiceConfigurationRequest:
    request: ServiceConfigurationRequest = make_request("service_configuration", **fields)
    return request


@pytest.mark.parametrize(("endpoint", "shape"), SHAPES)
def test_a_shape_has_the_parameters_of_a_recorded_request_in_their_order(
    endpoint: str, shape: str
) -> None:
    names = [name for name, _ in make_request(endpoint, shape=shape).params.items()]
    recorded = [
        [name for name, _ in parse_qsl(sample["query"], keep_blank_values=True)]
        for sample in SAMPLES
        if sample["endpoint"] == endpoint
    ]
    assert names in recorded


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_request_without_fields_is_a_usual_one(endpoint: str) -> None:
    request = make_request(endpoint)
    assert type(request) is ENDPOINTS[endpoint].request
    assert request.params["node_ip"]
    assert request.params["version_id"]


def test_fields_go_by_attribute_or_by_the_name_on_the_wire() -> None:
    by_attribute = make_request("media_location", ms_subnet=["10.0.0.0"])
    named: dict[str, Any] = {"ms-subnet": ["10.0.0.0"]}
    by_wire = make_request("media_location", **named)
    assert by_attribute.ms_subnet == by_wire.ms_subnet == ("10.0.0.0",)
    named = {"receive_from_video_mix~mix_name": "b"}
    mix = make_request("participant_properties", **named)
    assert mix.receive_from_video_mix_mix_name == "b"
    assert len(mix.params.getall("receive_from_video_mix~mix_name")) == 1


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, [""]),
        (True, ["True"]),
        (False, ["False"]),
        (7, ["7"]),
        ("text", ["text"]),
        (["a", None, 3], ["a", "", "3"]),
        (("a", "b"), ["a", "b"]),
        (ABSENT, []),
        ([], []),
    ],
)
def test_values_are_written_as_infinity_writes_them(value: Any, written: list[str]) -> None:
    assert service(call_tag=value).params.getall("call_tag", []) == written


def test_what_is_written_is_read_back_typed() -> None:
    request = service(registered=True, remote_port=5060, call_tag=None, local_alias="sip:A@B.c")
    assert (request.registered, request.remote_port, request.call_tag) == (True, 5060, None)
    assert request.local_alias == "a@b.c"
    again = service(local_alias=request.local_alias, extra={"new_in_v50": ["a", "b"]})
    assert again.local_alias.raw == request.local_alias.raw == "sip:A@B.c"
    assert again.params.getall("new_in_v50") == ["a", "b"]


def test_attributes_of_the_identity_provider_are_repeated_parameters() -> None:
    request = make_request(
        "participant_properties", shape="sso", idp_attributes={"groups": ["a", "b"], "level": 3}
    )
    assert request.idp_attributes == {"groups": ("a", "b"), "level": ("3",)}
    assert request.params.getall("idp_attribute_groups") == ["a", "b"]
    none = make_request("participant_properties", shape="sso", idp_attributes=ABSENT)
    assert none.idp_attributes == {}
    one = make_request("participant_properties", idp_attribute_role="chief")
    assert one.idp_attributes == {"role": ("chief",)}


@pytest.mark.parametrize("endpoint", ["participant_avatar", "registration_alias"])
def test_the_alias_in_the_path_is_a_field(endpoint: str) -> None:
    request: Any = make_request(endpoint, alias="sip:C+a/rol@Example.com")
    assert request.alias == "c+a/rol@example.com"
    assert "alias" not in request.params
    path = f"/api/pexip{ENDPOINTS[endpoint].path}sip%3AC%2Ba%2Frol%40Example.com?"
    assert str(url_of(request, "/api/pexip")).startswith(path)


@pytest.mark.parametrize(
    ("endpoint", "fields", "said"),
    [
        ("service_config", {}, "endpoint: there is no endpoint .*mean 'service_configuration'"),
        ("x", {}, "there are service_configuration, participant_properties"),
        ("media_location", {"shape": "spi"}, "shape: media_location has no shape .*mean 'sip'"),
        ("media_location", {"shape": "x"}, "there are sip"),
        ("media_location", {"local_alais": ""}, "local_alais: .* did you mean 'local_alias'"),
        ("media_location", {"alias": "a"}, "no such parameter"),
        ("registration_alias", {"allias": "a"}, "did you mean 'alias'"),
        ("registration_alias", {"alias": ""}, "alias: .* never empty"),
        ("registration_alias", {"alias": None}, "alias: .* never empty"),
        ("media_location", {"bandwidth": 1.5}, "bandwidth: Infinity sends no float"),
        ("media_location", {"call_tag": {"a": "b"}}, "call_tag: Infinity sends no dict"),
        ("participant_properties", {"idp_attributes": ["a"]}, "idp_attributes: write a table"),
    ],
)
def test_a_request_that_infinity_would_not_send_is_refused(
    endpoint: str, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        make_request(endpoint, **fields)


def test_a_request_is_frozen_also_where_its_parameters_are() -> None:
    request = service()
    with pytest.raises(AttributeError, match="frozen"):
        request.local_alias = "x"  # type: ignore[assignment]
    with pytest.raises(TypeError):
        request.params["local_alias"] = "x"  # type: ignore[index]


@pytest.mark.parametrize(("endpoint", "shape"), SHAPES)
def test_a_url_is_escaped_as_infinity_does_it(endpoint: str, shape: str) -> None:
    url = str(url_of(make_request(endpoint, shape=shape)))
    # The room has one name in all shapes; some recorded requests were written down with a bare @.
    rooms = re.compile("fb1df9f8-a487-46fb-bbdb-316539aeab3d|room-12|some_name")
    recorded = [rooms.sub("meet.bob", f"{s['path']}?{s['query']}") for s in SAMPLES]
    assert url in recorded or url.replace("%40", "@") in [u.replace("%40", "@") for u in recorded]
