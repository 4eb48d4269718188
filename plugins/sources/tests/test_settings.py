"""Settings of sources that cannot be used."""

from typing import Any

import pytest

from pexpolicy_sources import DataSourceSettings
from pexpolicy_sources.http import HttpSettings
from pexpolicy_sources.ldap import LdapSettings
from pexpolicy_sources.sql import SqlSettings


@pytest.mark.parametrize(
    ("kind", "keys", "text"),
    [
        (HttpSettings, {"url": "ftp://h"}, "write a whole URL"),
        (HttpSettings, {"url": "https://h?a=1"}, "leave out what begins with"),
        (HttpSettings, {"url": "https://u:p@h"}, "credentials are never in this file"),
        (HttpSettings, {"url": "http://api.example.com", "token_env": "PATH"}, "unencrypted"),
        (HttpSettings, {"url": "https://h", "client_id": "x"}, "go together"),
        (HttpSettings, {"url": "https://h", "scope": "x"}, "scope belongs to token_url"),
        (SqlSettings, {}, "write path .* or url"),
        (SqlSettings, {"path": "a", "url": "postgresql://h/d"}, "write path .* or url"),
        (SqlSettings, {"url": "postgresql://u:p@h/d"}, "credentials are never in this file"),
        (SqlSettings, {"url": "mysql://h/d"}, "is not a URL of PostgreSQL"),
        (SqlSettings, {"url": "postgresql://h"}, "is not a URL of PostgreSQL"),
        (SqlSettings, {"url": "postgresql://h/d?sslmode=off"}, "sslmode is not known"),
        (SqlSettings, {"path": "a", "password_env": "PATH"}, "are for PostgreSQL"),
        (SqlSettings, {"path": "a", "max_age": 1}, "max_age must be at least refresh_after"),
        (LdapSettings, {"url": "https://h"}, "is not an LDAP server"),
        (LdapSettings, {"url": "ldaps://h/dc=x"}, "is not an LDAP server"),
        (LdapSettings, {"url": "ldaps://u:p@h"}, "credentials are never in this file"),
        (LdapSettings, {"url": []}, "at least 1 item"),
        (LdapSettings, {"url": "ldaps://h", "user": "cn=x"}, "belong together"),
        (
            LdapSettings,
            {"url": "ldap://h", "tls": False, "user": "cn=x", "password_env": "PATH"},
            "unencrypted",
        ),
    ],
)
def test_settings_are_checked(
    kind: type[DataSourceSettings], keys: dict[str, Any], text: str
) -> None:
    base = {"base": ""} if kind is LdapSettings else {}
    with pytest.raises(ValueError, match=text):
        kind.model_validate({**base, **keys})
