"""Requests: parameters that never fail to parse, and values that reports must not hold."""

from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from yarl import URL

from pexpolicy import (
    MediaLocationRequest,
    ParticipantPropertiesRequest,
    RegistrationAliasRequest,
    Request,
    ServiceConfigurationRequest,
)
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.request import MAX_VALUES, parameters_of, secrets_of, withheld_values


def service(query: str) -> ServiceConfigurationRequest:
    return ServiceConfigurationRequest(URL(f"/?{query}", encoded=True).query)


def participant(query: str) -> ParticipantPropertiesRequest:
    return ParticipantPropertiesRequest(URL(f"/?{query}", encoded=True).query)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("True", True),
        ("true", True),
        (" TRUE ", True),
        ("False", False),
        ("false", False),
        *((text, None) for text in ("", "None", "null", "1", "0", "yes", "Truee", "\u200btrue")),
    ],
)
def test_a_flag_is_one_of_two_words_or_unset(text: str, value: bool | None) -> None:
    request = ServiceConfigurationRequest(MultiDict(registered=text))
    assert request.registered is value
    assert request.params["registered"] == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("59506", 59506),
        (" 7 ", 7),
        ("-1", -1),
        ("007", 7),
        *((text, None) for text in ("", "None", "1.5", "1e3", "0x10", "1_000", "--1", "+1", "-")),
        *((text, None) for text in ("٣", "²", "9" * 21, "9" * 5000, "nan", "1 2", "\uff11")),
    ],
)
def test_a_number_is_made_of_digits_or_unset(text: str, value: int | None) -> None:
    request = ServiceConfigurationRequest(MultiDict(remote_port=text))
    assert request.remote_port == value
    assert request.params["remote_port"] == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("chair", "chair"),
        ("guest", "guest"),
        ("Chair", "chair"),
        ('"guest"', "guest"),
        *((text, None) for text in ("", "None", "null", "NULL", "host", "chairs")),
    ],
)
def test_a_role_is_known_or_none(text: str, value: str | None) -> None:
    assert participant(f"preauthenticated_role={text}").preauthenticated_role == value


@pytest.mark.parametrize("written", ["credentials", '"credentials"', '"Credentials"'])
def test_quotes_around_the_way_to_authenticate_are_taken_off(written: str) -> None:
    request = RegistrationAliasRequest(MultiDict(auth_type=written), "a")
    assert request.auth_type == "credentials"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("p_Asserted-Identity", '["<sip:a@b>", "<tel:1>"]', ("<sip:a@b>", "<tel:1>")),
        ("P-Asserted-Identity", "<sip:a@b>", ("<sip:a@b>",)),
        ("p_asserted_identity", "<sip:a@b>", ("<sip:a@b>",)),
        ("p-asserted-identity", "[1, null, {}]", ()),
        ("p_Asserted-Identity", "[not json", ("[not json",)),
        ("p_Asserted-Identity", "[" * 5000, ("[" * 5000,)),
        ("p_Asserted-Identity", "[]", ()),
        ("p_Asserted-Identity", "", ()),
        ("p_Asserted-Identities", "<sip:a@b>", ()),
    ],
)
def test_values_from_sip_headers_are_read_in_both_forms(
    name: str, value: str, expected: tuple[str, ...]
) -> None:
    assert ServiceConfigurationRequest(MultiDict({name: value})).p_asserted_identity == expected


def test_values_from_sip_headers_add_up() -> None:
    params = MultiDict([("ms-subnet", "10.1.0.0"), ("MS_Subnet", '["10.2.0.0"]')])
    assert MediaLocationRequest(params).ms_subnet == ("10.1.0.0", "10.2.0.0")


def test_repeated_attributes_keep_every_value_in_order() -> None:
    request = participant(
        "idp_attribute_groups=a&idp_attribute_groups=b&idp_attribute_Display+Name=Bob"
        "&idp_attribute_e-mail=&idp_attribute_groups=a&idp_attributeless=x&idp_attribute_=nameless"
    )
    assert request.idp_attributes == {
        "groups": ("a", "b", "a"),
        "Display Name": ("Bob",),
        "e-mail": ("",),
        "": ("nameless",),
    }
    assert request.params.getall("idp_attribute_groups") == ["a", "b", "a"]


def test_every_value_of_a_secret_is_known_and_none_is_shown() -> None:
    params = MultiDict([("third_party_passcode", "4711"), ("third_party_passcode", "0815")])
    request = ServiceConfigurationRequest(params)
    assert secrets_of(request) == ["4711", "0815"]
    assert "4711" not in repr(request)
    assert "0815" not in repr(request)


def test_unknown_parameters_are_kept() -> None:
    assert service("future_parameter=7&x=").params["future_parameter"] == "7"


def test_a_missing_alias_is_the_empty_one() -> None:
    for query in ("", "local_alias=", "local_alias"):
        request = service(query)
        assert request.local_alias == ""
        assert request.local_alias.host == ""


def test_a_request_is_frozen() -> None:
    request = service("local_alias=a")
    for name in ("local_alias", "params", "made_up"):
        with pytest.raises(AttributeError, match="frozen"):
            setattr(request, name, "b")
        with pytest.raises(AttributeError, match="frozen"):
            delattr(request, name)


def made(request: type[Request], params: MultiDict[str], alias: str) -> Request:
    """A request of any kind."""
    return ENDPOINTS[named(request)].parse(params, alias)  # type: ignore[no-any-return]


def named(request: type[Request]) -> str:
    return next(name for name, endpoint in ENDPOINTS.items() if endpoint.request is request)


REQUESTS = [endpoint.request for endpoint in ENDPOINTS.values()]
NAMES = sorted({p.wire for request in REQUESTS for p in parameters_of(request).values()})
PAIRS = st.tuples(st.sampled_from(NAMES) | st.text(), st.text() | st.sampled_from(["True", "[1]"]))


@given(st.sampled_from(REQUESTS), st.lists(PAIRS, max_size=20), st.text())
def test_no_attribute_ever_raises(
    request: type[Request], pairs: list[tuple[str, str]], alias: str
) -> None:
    read = made(request, MultiDict(pairs), alias)
    for name in parameters_of(request):
        getattr(read, name)
    assert list(read.params.items()) == pairs
    assert repr(read).startswith(request.__name__)


@pytest.mark.parametrize("request_type", REQUESTS, ids=named)
def test_absent_values_are_unset(request_type: type[Request]) -> None:
    read = made(request_type, MultiDict(), "")
    for name in parameters_of(request_type):
        value: Any = getattr(read, name)
        assert not value


def test_the_alias_of_the_path_is_typed() -> None:
    assert "alias" in get_type_hints(RegistrationAliasRequest)
    assert RegistrationAliasRequest(MultiDict(), "sip:A@B").alias == "a@b"


@pytest.mark.parametrize(
    ("params", "withheld"),
    [
        ([("third_party_passcode", "4711")], ["4711"]),
        ([("access_token", "8f3c"), ("x", "abc"), ("y", "True")], ["8f3c"]),
        ([("remote_alias", "sip:a:pass@b"), ("called", "sip:a:pass@b")], ["pass", "pass"]),
        ([("local_alias", "meet@example.com"), ("domain", "example.com")], []),
        ([("idp_attribute_group", "staff"), ("Local-Alias", "meet"), ("vendor", "Cisco")], []),
    ],
)
def test_secrets_passwords_and_undeclared_values_are_withheld(
    params: list[tuple[str, str]], withheld: list[str]
) -> None:
    assert withheld_values(ServiceConfigurationRequest(MultiDict(params))) == withheld


def test_only_so_many_undeclared_values_are_looked_for() -> None:
    params = MultiDict((f"x{number}", f"value {number}") for number in range(5000))
    assert len(withheld_values(ServiceConfigurationRequest(params))) == MAX_VALUES
