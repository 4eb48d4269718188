"""The page *Use Active Directory*: its configuration with a server that has the schema."""

from pathlib import Path

from click.testing import CliRunner

from examples.company import start
from pexpolicy.cli.main import main
from tests.support import doc_pages, live_server, programs, slapd

pytestmark = programs.needs_compiled("python-ldap")

PAGE = doc_pages.DOCS / "tasks/use-active-directory.md"
TEXT = "EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15"
SCHEMA = f"""
attributetype ( 1.3.6.1.4.1.99999.3 NAME 'sAMAccountName' {TEXT} )
attributetype ( 1.3.6.1.4.1.99999.4 NAME 'userPrincipalName' {TEXT} )
attributetype ( 1.3.6.1.4.1.99999.5 NAME 'userAccountControl'
  EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 )
attributetype ( 1.3.6.1.4.1.99999.6 NAME 'memberOf'
  EQUALITY distinguishedNameMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 )
objectclass ( 1.3.6.1.4.1.99999.7 NAME 'user' SUP inetOrgPerson STRUCTURAL MAY
  ( sAMAccountName $ userPrincipalName $ userAccountControl $ memberOf $ thumbnailPhoto ) )
objectclass ( 1.3.6.1.4.1.99999.8 NAME 'computer' SUP user STRUCTURAL )
"""
MEMBER = {"memberOf": f"CN=Video,OU=Groups,{slapd.BASE}"}
SERVICE = {"objectClass": ["organizationalRole", "simpleSecurityObject"]}


def account(name: str, **more: str | bytes) -> slapd.Entries:
    values = {"cn": name, "sn": name, "sAMAccountName": name.lower(), "userAccountControl": "512"}
    found = {"mail": f"{name}.o@example.com", "userPrincipalName": f"{name}@Example.com"}
    shown = {"objectClass": "user", "displayName": f"{name} Ødegård"}
    return {f"CN={name},OU=People,{slapd.BASE}": {**values, **found, **shown, **more}}


ENTRIES = {
    f"OU=People,{slapd.BASE}": {"objectClass": "organizationalUnit"},
    f"OU=Services,{slapd.BASE}": {"objectClass": "organizationalUnit"},
    f"CN=svc-pexpolicy,OU=Services,{slapd.BASE}": {**SERVICE, "userPassword": slapd.PASSWORD},
    **account("Anna", **MEMBER, thumbnailPhoto=start._photo(), telephoneNumber="+47 22 12 34 56"),
    **account("Bo"),
    **account("Gone", **MEMBER, userAccountControl="514"),
    **account("PC7", objectClass="computer"),
}


def test_people_devices_and_pictures_come_from_the_directory(tmp_path: Path) -> None:
    text = doc_pages.block(PAGE, "toml")
    config = tmp_path / "config.toml"
    with slapd.Server.running(ENTRIES, SCHEMA) as server:
        for old, new in {
            '"ldaps://dc1.example.com", "ldaps://dc2.example.com"': f'"{server.secure_url}"',
            "ad-password": str(server.password_file),
            "ad-ca.pem": str(server.ca_file),
            "/var/lib/pexpolicy": str(tmp_path),
        }.items():
            assert old in text
            text = text.replace(old, new)
        config.write_text(f'[audit]\npath = "audit.jsonl"\n{text}')
        opened = CliRunner().invoke(main, ["check", "--open", str(config)])
        assert opened.exit_code == 0, opened.output
        with live_server.running(config) as policy:
            for text, names in {"odegard": ["anna", "bo"], "12+34": ["anna"]}.items():
                people = policy.ask(f"/policy/v1/registrations?q={text}").result
                assert [one["username"] for one in people] == names
            for name, action in {"anna": "continue", "bo": "reject", "gone": "reject"}.items():
                target = f"/policy/v1/registrations/{name}@example.com?protocol=sip"
                assert policy.ask(target).action == action
            for name, source in {"anna": "picture", "bo": "initials"}.items():
                target = f"/policy/v1/participant/avatar/{name}@example.com?width=40&height=40"
                assert policy.ask(target).body.startswith(b"\xff\xd8")
                assert source in policy.last_line()["reason"]
        server.kill()
        with live_server.running(config) as policy:  # the last rows are kept
            assert policy.ask("/policy/v1/registrations?q=bo").result
