"""Many mistakes in one file: each has a message of its own, with what to write."""

from pathlib import Path

import pytest

from pexpolicy.builder import policy_from
from pexpolicy.config.settings import ConfigError

WRONG: dict[str, tuple[str, dict[str, str]]] = {
    "tables that do not exist": (
        (
            "[Server]\n[http]\n[ldap]\n[source.d]\n[webhook]\n[locations]\n[users]\n[policy]\n"
            "[whitelist]\n[basic_auth]\n[status]\n[security]\n"
        ),
        {
            "Server": "did you mean 'server'?",
            "http": "did you mean 'server'?",
            "ldap": "did you mean 'sources'?",
            "source": "did you mean 'sources'?",
            "webhook": "if it is a plugin, write [plugins.webhook]",
            "locations": "locations belong in [plugins.locations.settings]",
            "users": "nodes log in by [auth], users of the console by [[console.users]]",
            "policy": "what is sent without a decision is default below [endpoints.NAME]",
            "whitelist": "did you mean 'access'?",
            "basic_auth": "did you mean 'auth'?",
            "status": "did you mean 'admin'?",
            "security": "if it is a plugin, write [plugins.security]",
        },
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
        {
            "include": "rooms, rules and subnets may be in files",
            "version": "leave the key out",
            "server.host": "is empty: write an address, such as 127.0.0.1",
            "server.timeout": "did you mean 'budget'?",
            "server.tls": "write a table [tls] with certificate and key",
            "server.ssl_cert": "write a table [tls] with certificate and key",
            "server.log_level": 'write level = "debug" below [log]',
            "server.url": "write host and port",
            "server.threads": "did you mean 'workers'?",
            "server.max_connections": "write connections below [limits]",
            "server.user": "write [auth] with user and password_env",
            "server.password": "write [auth] with user and password_env",
            "server.address": "did you mean 'host'?",
            "auth.type": "it is always Basic; leave the key out",
            "auth.token": "write user and password_env",
            "tls.chain": "append the intermediate certificates",
            "tls.port": "write server.port",
            "tls.ciphers": "leave the key out",
            "access.nodes": "did you mean 'networks'?",
            "access.deny": "write those who may connect in networks",
            "access.trusted_proxies": "write it in square brackets",
            "access.rate_limit": "[limits] limits connections",
            "audit.path": "write text in quotes",
            "audit.format": "lines are JSON; leave the key out",
            "audit.compress": "all commands read .gz too",
            "audit.sign": "sign_key_file",
            "audit.syslog": "pexpolicy serve | logger -t pexpolicy",
            "log.format": "leave the key out",
            "privacy.anonymize": 'write personal = "hashed" or "dropped"',
            "limits.timeout": "unknown key",
            "limits.rate": "[limits] limits connections",
            "infinity.host": "Infinity is never asked",
            "infinity.theme": "did you mean 'themes'?",
            "infinity.themes[0]": "write text in quotes, and no table",
            "infinity.extra_fields[0]": "small letters, digits and _",
            "admin.user": "write token_env or token_file",
            "tracing.endpoint": "write one such as http://127.0.0.1:4318/v1/traces",
        },
    ),
    "a console and endpoints": (
        (
            "[endpoints]\ndefault = 'reject'\nregistration_alias = 'reject'\n[endpoints.services]\n"
            "[console]\nurl = 'console.example.com/x'\npassword = 'x'\nldap = {}\n"
            "[[console.users]]\nname = 'anna'\npassword_env = 'HOME'\n"
            "[console.oidc]\nissuer = 'i.example.com'\nclient_id = ''\n"
            "[console.proxy]\nnetworks = ['10.0.0.0/8']\nroles = { administrators = ['x'] }\n"
        ),
        {
            "endpoints.default": "belongs below a table with a name: [endpoints.NAME]",
            "endpoints.registration_alias": 'registration_alias = { default = "reject" }',
            "endpoints.services": "did you mean 'service_configuration'?",
            "console.url": "is not a URL without a path",
            "console.password": "each user has a table [[console.users]]",
            "console.ldap": "[[console.users]], [console.oidc] or [console.proxy]",
            "console.users[0].name": "did you mean 'user'?",
            "console.oidc.issuer": "is not a URL",
            "console.oidc.client_id": "is empty",
            "console.oidc.roles": 'is missing: groups by role, as in roles = { admin = ["GROUP"] }',
            "console.proxy.roles.administrators": "did you mean 'admin'?",
        },
    ),
    "plugins": (
        (
            "[plugins.rooms_de]\n[plugins.de]\nplugin = 'pexpolicy-rooms'\n"
            "[plugins.rooms]\norder = 1\ndisabled = true\n"
            "[plugins.domains]\nbreaker = { threshold = 5, timeout = 9 }\nplugin = ''\n"
            "[plugins.rules]\nbreaker = true\n[plugins.rules.settings]\npriority = 5\n"
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
        {
            "plugins.rooms_de": 'write plugin = "rooms" in its table',
            "plugins.de.plugin": "did you mean 'rooms'?",
            "plugins.rooms.order": "did you mean 'priority'?",
            "plugins.rooms.disabled": "leave out the whole table",
            "plugins.domains.breaker.threshold": "did you mean 'failures'?",
            "plugins.domains.breaker.timeout": "did you mean 'pause'?",
            "plugins.domains.plugin": "is empty: write a value, or leave the key out",
            "plugins.rules.breaker": "as in breaker = {}",
            "plugins.rules.settings.priority": "it is a key of [plugins.NAME] itself",
            "plugins.registrations.settings.default": "did you mean 'otherwise'?",
            "plugins.locations.settings.default_location": "did you mean 'default'?",
            "plugins.locations.settings.overflow": "write [….overflow.NAME] for each",
            "plugins.locations.settings.geoip.countries.Norway": "a code of two capital letters",
            "plugins.avatars.settings.initials": "as in initials = {}",
            "plugins.directory.settings.separator": "it is detected; leave the key out",
            "plugins.directory.settings.sheet": "save the sheet as a CSV file of its own",
            "plugins.directory.settings.excel": "did you mean 'csv'?",
            "plugins.webhook.settings.events": "did you mean 'endpoints'?",
            "plugins.local-policy.settings.service": "did you mean 'service_configuration'?",
            "plugins.upstream.settings.targets": "write [….targets.NAME] for each",
            "sources.files.driver": "did you mean 'file'?",
            "sources.people.filter": "write it in query of the plugin",
            "sources.rows.driver": "such as sql, ldap, http or file",
            "sources.db.port": "did you mean 'url'?",
            "sources.db.dbname": "did you mean 'url'?",
        },
    ),
    "one level too high": (
        "sources = [{ driver = 'sql' }]\nplugins = ['rooms']\nendpoints = ['x']\n",
        {
            "sources": "write [sources.NAME] for each, not [[sources]]",
            "plugins": "write [plugins.NAME] for each, not [[plugins]]",
            "endpoints": "write [endpoints.NAME] for each, not [[endpoints]]",
        },
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
        {
            "plugins.rooms.settings.rooms.x.guests": "did you mean 'allow_guests'?",
            "plugins.rooms.settings.rooms.x.gjester_tillatt": "did you mean 'allow_guests'?",
            "plugins.rooms.settings.rooms.x.alias": "did you mean 'aliases'?",
            "sources.d.url[0]": "write ldaps://HOST or ldap://HOST; the DN belongs in base",
            "plugins.rooms.settings.rooms.x.code_invite": "did you mean 'guest_pin'?",
            "plugins.rules.settings.rules[0].when.not": "did you mean 'none'?",
            "plugins.rules.settings.rules[0].when.or": "did you mean 'any'?",
            "plugins.rules.settings.rules[0].when.and": "did you mean 'all'?",
            "plugins.rules.settings.rules[0].when.user_agent": "did you mean 'vendor'?",
            "plugins.rules.settings.rules[0].when.weekday": "did you mean 'time'?",
            "plugins.rules.settings.rules[0].when.domain": "write local_alias.host or",
            "plugins.rules.settings.rules[0].then.redirect": 'action = "redirect", new_alias =',
        },
    ),
}
"""Configurations, and by key what each message must hold."""


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_of_a_file_has_its_own_message(tmp_path: Path, name: str) -> None:
    text, expected = WRONG[name]
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        policy_from(tmp_path / "config.toml")
    said = [str(problem) for problem in caught.value.problems]
    for key, words in expected.items():
        assert any(one.startswith(f"{key}: ") and words in one for one in said), (key, words, said)


DOUBTFUL: dict[str, str] = {
    "audit.path": "%Y is not replaced here",
    "console.tls": "there is no [tls] with a certificate",
    "tracing.endpoint": "write http://HOST:4318/v1/traces",
    "plugins.rooms.settings.rooms.x": "did you mean 'one_main_seven_pips'?",
    "plugins.rooms.settings.rooms.y": "did you mean 'four_mains_zero_pips'?",
}


def test_each_doubtful_setting_has_its_own_warning(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        "[audit]\npath = 'audit-%Y-%m-%d.jsonl'\n[console]\ntls = true\n"
        "[tracing]\nendpoint = 'http://localhost:4317'\n"
        "[plugins.rooms.settings.rooms]\nx = { name = 'X', view = '1+7' }\n"
        "y = { name = 'Y', view = '2x2' }\n"
    )
    policy = policy_from(tmp_path / "config.toml")
    said = [str(warning) for warning in policy.warnings]
    policy.close()
    for key, words in DOUBTFUL.items():
        assert any(one.startswith(f"{key}: ") and words in one for one in said), (key, said)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("Subnetz|Standort", "has | between its columns; save it with , or ;"),
        ('"subnet,location"', "is one cell in quotes, with , in it: save the file without these"),
        ("nettverk;plassering", "did you mean 'location'?"),
        ("Subnet*;Location (site)", "did you mean 'location'?"),
        ("subnet;location;Room", "delete it, or write one of subnet, location,"),
    ],
)
def test_a_header_is_understood_as_people_write_it(tmp_path: Path, header: str, words: str) -> None:
    (tmp_path / "subnets.csv").write_text(header + "\n")
    (tmp_path / "config.toml").write_text("[plugins.locations.settings]\ncsv = 'subnets.csv'\n")
    with pytest.raises(ConfigError) as caught:
        policy_from(tmp_path / "config.toml")
    assert any(words in str(problem) for problem in caught.value.problems), caught.value.problems


def test_a_folder_that_docker_made_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(ConfigError) as caught:
        policy_from(tmp_path / "config.toml")
    assert "Docker makes one where the file to mount is missing" in str(caught.value.problems[0])
