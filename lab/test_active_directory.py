"""The page *Use Active Directory*: its configuration with a server that has the schema."""

import io
from pathlib import Path

from click.testing import CliRunner
from PIL import Image

from pexpolicy.cli.main import main
from tests.support import doc_pages, live_server, programs, slapd

pytestmark = programs.needs_compiled("python-ldap")

PAGE = doc_pages.DOCS / "tasks/use-active-directory.md"
TEXT, NUMBER, NAME = (
    f"EQUALITY {rule} SYNTAX 1.3.6.1.4.1.1466.115.121.1.{syntax}"
    for rule, syntax in (
        ("caseIgnoreMatch", 15),
        ("integerMatch", 27),
        ("distinguishedNameMatch", 12),
    )
)
ATTRIBUTES = {
    "sAMAccountName": TEXT,
    "userPrincipalName": TEXT,
    "userAccountControl": NUMBER,
    "memberOf": NAME,
}
SCHEMA = "\n".join(
    f"attributetype ( 1.2.840.113556.1.4.{number} NAME '{name}' {rest} )"
    for number, (name, rest) in enumerate(ATTRIBUTES.items(), start=90_001)
)
SCHEMA += f"""
objectclass ( 1.2.840.113556.1.5.9 NAME 'user' SUP inetOrgPerson STRUCTURAL
  MAY ( {" $ ".join([*ATTRIBUTES, "thumbnailPhoto"])} ) )
objectclass ( 1.2.840.113556.1.3.30 NAME 'computer' SUP user STRUCTURAL )
"""
GROUP = f"CN=Video,OU=Groups,{slapd.BASE}"
NORMAL, DISABLED = "512", "514"
"""Values of ``userAccountControl``."""


def account(
    name: str, control: str = NORMAL, kind: str = "user", **more: str | bytes
) -> slapd.Entries:
    values: dict[str, str | bytes] = {
        "objectClass": kind,
        "cn": name,
        "sn": name,
        "displayName": f"{name} Ødegård",
        "mail": f"{name}.o@example.com",
        "sAMAccountName": name.lower(),
        "userPrincipalName": f"{name}@Example.com",
        "userAccountControl": control,
    }
    return {f"CN={name},OU=People,{slapd.BASE}": {**values, **more}}


def photo() -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (96, 96), "green").save(made, "JPEG")
    return made.getvalue()


def entries() -> slapd.Entries:
    units = {
        f"OU={name},{slapd.BASE}": {"objectClass": "organizationalUnit", "ou": name}
        for name in ("People", "Services")
    }
    service = {"objectClass": ["organizationalRole", "simpleSecurityObject"]}
    return {
        **units,
        f"CN=svc-pexpolicy,OU=Services,{slapd.BASE}": {**service, "userPassword": slapd.PASSWORD},
        **account(
            "Anna", memberOf=GROUP, thumbnailPhoto=photo(), telephoneNumber="+47 22 12 34 56"
        ),
        **account("Bo"),
        **account("Gone", DISABLED, memberOf=GROUP),
        **account("PC7", kind="computer"),
    }


def test_people_devices_and_pictures_come_from_the_directory(tmp_path: Path) -> None:
    _, text = next(one for one in doc_pages.blocks(PAGE) if one[0] == "toml")
    with slapd.Server.running(entries(), SCHEMA) as server:
        for old, new in {
            '"ldaps://dc1.example.com", "ldaps://dc2.example.com"': f'"{server.secure_url}"',
            "ad-password": str(server.password_file),
            "ad-ca.pem": str(server.ca_file),
            "/var/lib/pexpolicy": str(tmp_path),
        }.items():
            assert old in text
            text = text.replace(old, new)
        config = tmp_path / "config.toml"
        config.write_text(f'[audit]\npath = "audit.jsonl"\n{text}')
        opened = CliRunner().invoke(main, ["check", "--open", str(config)])
        assert opened.exit_code == 0, opened.output
        with live_server.running(config) as policy:
            found = policy.ask("/policy/v1/registrations?q=odegard").result
            assert [(one["alias"], one["username"]) for one in found] == [
                ("Anna.o@example.com", "anna"),
                ("Bo.o@example.com", "bo"),
            ]
            assert policy.ask("/policy/v1/registrations?q=12+34").result[0]["username"] == "anna"
            devices = {
                name: policy.ask(f"/policy/v1/registrations/{name}@example.com?protocol=sip").action
                for name in ("anna", "bo", "gone")
            }
            assert devices == {"anna": "continue", "bo": "reject", "gone": "reject"}
            for alias, source in (
                ("anna@example.com", "picture"),
                ("bo.o@example.com", "initials"),
            ):
                shown = policy.ask(f"/policy/v1/participant/avatar/{alias}?width=40&height=40")
                assert shown.body.startswith(b"\xff\xd8")
                assert source in policy.last_line()["reason"]
            server.kill()
        with live_server.running(config) as policy:
            assert policy.ask("/policy/v1/registrations?q=bo").result
