"""Values of a request that reports of errors must not hold."""

import pytest
from multidict import MultiDict

from pexpolicy import ServiceConfigurationRequest
from pexpolicy.models.request_secrets import MAX_VALUES, withheld_values


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
