"""Many mistakes in one file: each is reported, with its key."""

from pathlib import Path

import pytest

from pexpolicy.builder import policy_from
from pexpolicy.config.settings import ConfigError

WRONG: dict[str, tuple[str, str]] = {
    "tables that do not exist": (
        (
            "[Server]\n[http]\n[ldap]\n[source.d]\n[webhook]\n[locations]\n[users]\n[policy]\n"
            "[whitelist]\n[basic_auth]\n[status]\n[security]\n"
        ),
        (
            "Server http ldap source webhook locations users policy whitelist basic_auth status "
            "security"
        ),
    ),
    "keys of another table, or of another server": (
        (
            "include = ['more.toml']\nversion = 1\n"
            "[server]\nhost = ''\ntimeout = 4\ntls = true\nssl_cert = 'a'\nlog_level = 'debug'\n"
            "url = 'x'\nthreads = 4\nmax_connections = 4\nuser = 'a'\n"
            "password = 'b'\naddress = 'x'\n"
            "[auth]\ntype = 'basic'\ntoken = 'x'\n"
            "[tls]\nkey = 'a'\ncertificate = 'a'\nchain = 'b'\nport = 8443\nciphers = 'HIGH'\n"
            "[access]\nnodes = []\ndeny = []\ntrusted_proxies = true\nrate_limit = 1\n"
            "[audit]\npath = true\nformat = 'json'\ncompress = true\nsign = true\nsyslog = 'x'\n"
            "[log]\nformat = 'json'\n[privacy]\nanonymize = true\n[limits]\ntimeout = 5\nrate = 1\n"
            "[infinity]\nhost = 'x'\ntheme = []\nthemes = [{ name = 'x' }]\n"
            "extra_fields = ['A B']\n"
            "[admin]\nuser = 'a'\n[tracing]\nendpoint = 'localhost:4318'\n"
        ),
        (
            "include version server.host server.timeout server.tls server.ssl_cert "
            "server.log_level server.url server.threads server.max_connections server.user "
            "server.password server.address auth.type auth.token tls.chain tls.port tls.ciphers "
            "access.nodes access.deny access.trusted_proxies access.rate_limit audit.path "
            "audit.format audit.compress audit.sign audit.syslog log.format privacy.anonymize "
            "limits.timeout limits.rate infinity.host infinity.theme infinity.themes[0] "
            "infinity.extra_fields[0] admin.user tracing.endpoint"
        ),
    ),
    "a console and endpoints": (
        (
            "[endpoints]\ndefault = 'reject'\nregistration_alias = 'reject'\n[endpoints.services]\n"
            "[console]\nurl = 'console.example.com/x'\npassword = 'x'\nldap = {}\n"
            "[[console.users]]\nname = 'anna'\npassword_env = 'HOME'\n"
            "[console.oidc]\nissuer = 'i.example.com'\nclient_id = ''\n"
            "roles = { administrators = ['x'] }\n"
        ),
        (
            "endpoints.default endpoints.registration_alias endpoints.services console.url "
            "console.password console.ldap console.users[0].name console.oidc.issuer "
            "console.oidc.client_id console.oidc.roles.administrators"
        ),
    ),
    "plugins": (
        (
            "[plugins.rooms_de]\n[plugins.de]\nplugin = 'pexpolicy-rooms'\n"
            "[plugins.rooms]\norder = 1\ndisabled = true\n"
            "[plugins.domains]\nbreaker = { failures = 5 }\nplugin = ''\n"
            "[plugins.rules]\n[plugins.rules.settings]\npriority = 5\n"
            "[plugins.registrations.settings]\ndefault = 'reject'\n"
            "[plugins.locations.settings]\ndefault_location = 'Oslo'\noverflow = ['a']\n"
            "geoip = { database = 'x', countries = { Norway = 'Oslo' } }\n"
            "[plugins.avatars.settings]\ninitials = true\n"
            "[plugins.directory.settings]\nseparator = ';'\nsheet = 'People'\nexcel = 'x.xlsx'\n"
            "[plugins.webhook.settings]\nevents = []\n"
            "[plugins.local-policy.settings]\nservice = 'a'\n"
            "[plugins.upstream.settings]\ntargets = ['https://a.example.com']\n"
            "[sources.files]\ndriver = 'csv'\n"
            "[sources.people]\ndriver = 'ldap'\nfilter = '(a=b)'\n"
            "[sources.rows]\npath = 'x.db'\n"
            "[sources.db]\ndriver = 'sql'\nport = 5432\ndbname = 'x'\n"
        ),
        (
            "plugins.rooms_de plugins.de.plugin plugins.rooms.order plugins.rooms.disabled "
            "plugins.domains.breaker "
            "plugins.domains.plugin plugins.rules.settings.priority "
            "plugins.registrations.settings.default plugins.locations.settings.default_location "
            "plugins.locations.settings.overflow "
            "plugins.locations.settings.geoip.countries.Norway plugins.avatars.settings.initials "
            "plugins.directory.settings.separator plugins.directory.settings.sheet "
            "plugins.directory.settings.excel plugins.webhook.settings.events "
            "plugins.local-policy.settings.service plugins.upstream.settings.targets "
            "sources.files.driver sources.people.filter sources.rows.driver sources.db.port "
            "sources.db.dbname"
        ),
    ),
    "one level too high": (
        "sources = [{ driver = 'sql' }]\nplugins = ['rooms']\nendpoints = ['x']\n",
        ("sources plugins endpoints"),
    ),
    "fields and conditions": (
        (
            "[plugins.rooms.settings.rooms.x]\nname = 'X'\nguests = true\ngjester_tillatt = true\n"
            "code_invite = '1'\nplassering = 'x'\nalias = 'y'\n"
            "[sources.d]\ndriver = 'ldap'\nbase = ''\nurl = 'ldaps://a.example/dc=example'\n"
            "[[plugins.rules.settings.rules]]\nname = 'r'\nendpoint = 'media_location'\n"
            "when = { not = {}, or = [], and = [], user_agent = 'x', weekday = 1, domain = 1 }\n"
            "then.redirect = 'sip:a@example.com'\n"
        ),
        (
            "plugins.rooms.settings.rooms.x.guests plugins.rooms.settings.rooms.x.gjester_tillatt "
            "plugins.rooms.settings.rooms.x.alias sources.d.url[0] "
            "plugins.rooms.settings.rooms.x.code_invite plugins.rules.settings.rules[0].when.not "
            "plugins.rules.settings.rules[0].when.or plugins.rules.settings.rules[0].when.and "
            "plugins.rules.settings.rules[0].when.user_agent "
            "plugins.rules.settings.rules[0].when.weekday "
            "plugins.rules.settings.rules[0].when.domain "
            "plugins.rules.settings.rules[0].then.redirect"
        ),
    ),
}
"""Configurations, and the keys that are wrong."""


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_of_a_file_is_reported_with_its_key(tmp_path: Path, name: str) -> None:
    text, keys = WRONG[name]
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        policy_from(tmp_path / "config.toml")
    found = [str(problem).partition(": ")[0] for problem in caught.value.problems]
    assert [key for key in keys.split() if key not in found] == []


@pytest.mark.parametrize(
    "header",
    [
        *("Subnetz|Standort", '"subnet,location"', "nettverk;plassering"),
        *("subnet;location;Room", "subnet;location;subnet", ";subnet;location", ""),
    ],
)
def test_a_header_that_does_not_name_the_columns_is_refused(tmp_path: Path, header: str) -> None:
    (tmp_path / "subnets.csv").write_text(header + "\n")
    (tmp_path / "config.toml").write_text("[plugins.locations.settings]\ncsv = 'subnets.csv'\n")
    with pytest.raises(ConfigError) as caught:
        policy_from(tmp_path / "config.toml")
    assert "subnets.csv line 1: " in str(caught.value)
