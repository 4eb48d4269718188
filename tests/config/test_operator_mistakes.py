"""Mistakes of administrators: each is refused, with the key and the line where it is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pexpolicy.cli.main import main
from tests.support import certificates

ROOM = "[plugins.rooms.settings.rooms.board]\nname = 'Board'\n"
RULE = (
    "[[plugins.rules.settings.rules]]\nname = 'r'\nendpoint = 'service_configuration'\n"
    "then = 'reject'\n"
)
UPSTREAM = "[plugins.upstream.settings.targets.t]\nurl = 'https://policy.example.com'\n"
AUDIT = "[audit]\npath = 'audit.jsonl'\n"
OF_SOURCE = "[plugins.rooms.settings]\nsource = 'd'\nquery = 'select 1'\n"
LOCATIONS = (
    "[infinity]\nlocations = ['Oslo DC', 'Bergen']\n[plugins.locations.settings]\ndefault = '{}'"
)
HTTP = "[sources.d]\ndriver = 'http'\nurl = 'https://a.example.com'\n"
BARE_RULE = "[[plugins.rules.settings.rules]]\nname = 'r'\n"
CREDENTIAL = "[[auth.credentials]]\nuser = 'a'\n"

OF_SECTIONS: dict[str, tuple[str, ...]] = {
    "server": (
        *("bind = '127.0.0.1'", "listen = '127.0.0.1'", "allow_anonymous = 'on'"),
        *("allow_anonymous = 0", "host = '[::1'", "host = '::1:8000'", "host = ':8000'"),
        *("port = '8000'", "allow_anonymous = 'yes'", "base_path = '/policy/v1'"),
        *("base_path = '/büro'", "base_path = '/a/../b'", "base_path = '//a'"),
        *("host = '0.0.0.0'", "budget = 4000", "host = '127.0.0.1:8000'"),
        *("host = 'http://127.0.0.1'", "host = ' 127.0.0.1'", "host = ['127.0.0.1']"),
    ),
    "audit": ("file = 'a'", "path = 'syslog://localhost'", "path = 'config.toml'"),
    "access": ("proxies = []", "allow = []", "networks = '10.1.0.0/16'"),
    "plugins.locations.settings": ("file = 'a.csv'",),
    "plugins.rules.settings": ("file = 'a.toml'", "include = 'a.toml'"),
    "plugins.upstream.settings": ("url = 'https://a'", "password_file = 'a'"),
    "plugins.rooms.settings": (
        *("files = 'r.csv'", "csv = 'https://a.example.com/rooms.csv'"),
        *("csv = 'rooms.csv '", "csv = 'confg.toml'", "csv = 'config.csv'"),
    ),
    "admin": (
        *("port = false", "port = 'off'", "token = 'a'", "token_env = 'UNSET_4711'"),
        *("host = '*'",),
    ),
    "plugins": ("order = ['rooms']",),
    "infinity.extra_values": ("servce_type = ['x']",),
    "plugins.rooms": (
        *("on_eror = 'skip'", "default_room = 'x'", "priority = 'high'", "priority = '10'"),
        *("timeout = '1s'", "timeout = 500", "on_error = 'deny'", "on_error = 'ignore'"),
        *("enabled = false",),
    ),
    "log": ("file = 'x.log'", "level = 'warn'", "level = 'INFO'"),
    "privacy": ("personal = 'drop'",),
}
"""Lines below a section, each wrong in its key or value."""
MISTAKES: list[tuple[str, str, int | None]] = [
    *(
        (f"[{section}]\n{written}", f"{section}.{written.split()[0]}", 2)
        for section, lines in OF_SECTIONS.items()
        for written in lines
    ),
    *(
        (ROOM + written, f"rooms.board.{written.split()[0]}", 3)
        for written in (
            *("host_pin = '1234'", "hostpin = '1234'", "guest_password = '1234'"),
            *("password = '1234'", "type = 'lecture'", "theme = 'x'", "tag = 'x'"),
            *("layout = '1:7'", "max_participants = 9", "pni = '1234'", "alow_guests = true"),
            *("default_room = 'x'", "timeout = 2", "plugin_dirs = ['plug']", "pin = 1234"),
            "allow_guests = 'true'",
        )
    ),
    *(
        (f"{RULE}when.{written}", f"rules[0].when.{written.partition(' = ')[0]}", 5)
        for written in (
            *("local_alias.starts_with = 'a'", "local_alias.startswith = 'a'"),
            *("local_alias.ends_with = 'a'", "local_alias.matches = 'a'"),
            *("local_alias.pattern = 'a'", "local_alias.in = ['a']"),
            *("remote_address.network = '10.0.0.0/8'", "time = '18:00-08:00'"),
            *("ip = '10.0.0.1'", "local_alias.in_list = ['x']"),
            *("local_alias.begins_with = 'x'", "user = 'x'", "any = []"),
        )
    ),
    *(
        (
            f"{RULE}when.time = {{ zone = 'Europe/Oslo', {written} }}",
            f"rules[0].when.time.{written.split()[0]}{'[0]' * (' = [' in written)}",
            5,
        )
        for written in (
            *("between = '18:00-08:00'", "between = ['24:00', '18:00']"),
            *("between = ['9:00', '17:00']", "between = ['8.30', '17:00']"),
            *("between = ['7am', '17:00']", "between = ['12 am', '17:00']"),
            *("between = ['11pm', '17:00']", "between = [8, '17:00']"),
            *("between = ['25:00', '17:00']", "between = ['noon', '17:00']"),
            *("dates = ['24.12.2030']", "from = '08:00'", "hours = '08:00-18:00'"),
            *("weekdays = 'monday-wednesday'", "weekdays = ['Fri to Mon']"),
            *("weekdays = ['Monday', 'Tue']", "weekdays = 'weekend'"),
            *("weekdays = ['lundi', 'mardi']", "weekdays = [1, 2]"),
        )
    ),
    *(
        (f"{UPSTREAM}[plugins.upstream.settings.targets.u]\nurl = '{written}'", "targets.u.url", 4)
        for written in (
            *("https://p.example.com /", "https://{host}/", "http://::1:8000"),
            "https://p.example.com//api/",
        )
    ),
    *(
        (LOCATIONS.format(written), "locations.settings.default.location", 4)
        for written in (*("OSLO DC", "Oslo DC; Bergen", "Stavanger", "site"),)
    ),
    *(
        (f"[plugins.rooms.settings]\nzone = '{written}'", "rooms.settings.zone", 2)
        for written in (
            *("Oslo", "europe/oslo", "CEST", "GMT+1", "+01:00", "W. Europe Standard Time"),
        )
    ),
    *(
        (f"[access]\nnetworks = ['{written}']", "access.networks[0]", 2)
        for written in (
            *("any", "10.1.2.3/16", "10.1.0.0 255.255.0.0", "10.1.0.0 /16", "010.001.0.0/16"),
            *("10.1.*", "10.1.2.*", "10.1.0.0-10.1.0.255", "10.1.0.1 - 10.1.3.7"),
            *("10.1.0.0/16, 10.2.0.0/16", "node1.example.com", "10.1.0.0/33"),
        )
    ),
    ("[tls]\ncert = 'a.pem'\nkey = 'b.pem'", "tls.cert", 2),
    ("[tls]\ncertfile = 'a'\nkeyfile = 'b'", "tls.keyfile", 3),
    ("[tls]\ncertificate = 'a'\nkey = 'b'\nca = 'c'", "tls.ca", 4),
    ("[ssl]", "ssl", 1),
    ("[logging]", "logging", 1),
    ("[metrics]\nenabled = true", "metrics", 1),
    ("[rooms.x]\nname = 'x'", "rooms", 1),
    ("[[rules]]\nname = 'x'", "rules", 1),
    ("[domains]\nallowed = []", "domains", 1),
    (AUDIT + "rotate = 'daily'", "audit.rotate", 3),
    (AUDIT + "max_size = '10MB'", "audit.max_size", 3),
    (AUDIT + "rotate_days = 1", "audit.rotate_days", 3),
    (AUDIT + "chain = true", "audit.chain", 3),
    (AUDIT + "retention = 3", "audit.retention", 3),
    ("[auth]\nusername = 'a'\npassword_env = 'A'", "auth.username", 2),
    (UPSTREAM + "ca_cert = 'a.pem'", "targets.t.ca_cert", 3),
    (RULE + "when.time = { between = ['18:00', '08:00'] }", "rules[0].when.time.zone", 5),
    ("[plugins.rooms.settings]\nfiles = ['a.toml', 'r.csv']", "rooms.settings.files[1]", 2),
    (CREDENTIAL + "password_file = 'gone'", "auth.credentials[0].password_file", 3),
    (
        RULE + "[plugins.rules.settings.rules.when]\nlocal_alias = 'a'\nthen = 'reject'",
        "rules[0].when.then",
        7,
    ),
    ("[tls]\ncertificate = '${CREDENTIALS_DIRECTORY}/a.pem'\nkey = 'b'", "tls.certificate", 2),
    ("[plugins.sql.settings]\nqueries = {}", "plugins.sql.settings.source", 1),
    (
        RULE + "when.time = { timezone = 'Europe/Oslo', weekdays = ['monday'] }",
        "rules[0].when.time.timezone",
        5,
    ),
    (BARE_RULE + "then = 'reject'", "rules[0].endpoint", 1),
    (RULE + "action = 'reject'", "rules[0].action", 5),
    ("[plugins.romms]", "plugins.romms", 1),
    (
        BARE_RULE + "endpoint = 'service_configuration'\nthen = { call_tag = 'x' }\n",
        "rules[0].then.call_tag",
        4,
    ),
    ("[server]\nport = 1\nplugin_dirs = ['plug']", "server.plugin_dirs", 3),
    (RULE + "plugin_dirs = ['plug']", "rules[0].plugin_dirs", 5),
    (UPSTREAM + "password = 'x'", "targets.t.password", 3),
    ("[auth]\nuser = 'a'\npassword = 'x'", "auth.password", 3),
    (CREDENTIAL + "password = 'x'", "auth.credentials[0].password", 3),
    (RULE + "when.time = { zone = 'Oslo', weekdays = ['monday'] }", "rules[0].when.time.zone", 5),
    (AUDIT + "rotate_mb = '100MB'", "audit.rotate_mb", 3),
    ("server = 'x'", "server", 1),
    ("[server]\nport = 9107", "admin.port", None),
    (RULE + "when.caller.prefix = 'x'", "rules[0].when.caller", 5),
    (RULE + "when.to.prefix = 'x'", "rules[0].when.to", 5),
    ("[[plugins.rooms.settings.rooms]]\nname = 'Board'", "rooms.settings.rooms", 1),
    (
        "[plugins.domains.settings]\nallowed = ['acme,example']",
        "plugins.domains.settings.allowed[0]",
        2,
    ),
    ("[auth]\npassword_env = 'A'", "auth", 1),
    ("[[auth.users]]\nuser = 'a'", "auth.users", 1),
    ("[console]\nusers = ['a']", "console.users[0]", 2),
    ("[[console.logins]]\nuser = 'a'", "console.logins", 1),
    ("[sources.d]\ndriver = 'sql'\nurl = 'sqlite:///x.db'\n" + OF_SOURCE, "sources.d", 1),
    ("[sources.d]\ndriver = 'postgres'\n" + OF_SOURCE, "sources.d.driver", 2),
    ("[sources.d]\nurl = 'postgresql://u@h/db'\n" + OF_SOURCE, "rooms.settings.source", 4),
    (HTTP + "token = 'x'\n" + OF_SOURCE, "sources.d.token", 4),
    ("[[server]]\nport = 8000", "server", 1),
    (RULE.replace("[[", "[").replace("]]", "]"), "rules.settings.rules", 1),
    ("[[plugins.rooms.settings.rooms.board]]\nname = 'B'", "rooms.board", 1),
    ("[plugins.rooms.settings.rooms.board.oslo]\nname = 'B'", "rooms.board", 1),
    ("[plugins.rooms.settings.board]\nname = 'B'", "rooms.settings.board", 1),
    (
        "[endpoints.service_configuration]\ndefault = 'allow'",
        "endpoints.service_configuration.default",
        2,
    ),
    ("[tls]\ncertificate = 'a'\nkey = 'b'\nmin_version = 'TLSv1.2'", "tls.min_version", 4),
    (BARE_RULE + "then = 'reject'\nendpoint = 'participants'", "rules[0].endpoint", 4),
    (BARE_RULE + "endpoint = 'service_configuration'\nthen = 'REJECT'", "rules[0].then", 4),
    (BARE_RULE + "endpoint = 'service_configuration'\nthen = 'accept'", "rules[0].then", 4),
    (RULE + "priority = 5", "rules[0].priority", 5),
    (RULE + "stop = true", "rules[0].stop", 5),
    (RULE + "if.local_alias = 'x'", "rules[0].if", 5),
    (RULE + "when.call_info.local_alias = 'x'", "rules[0].when.call_info", 5),
    (AUDIT + "plugins.rooms.settings.csv = 'rooms.csv'", "audit.plugins", 3),
    ("[server.auth]\nuser = 'a'", "server.auth", 1),
    (
        HTTP + "[plugins.rooms.settings]\nsource = 'd'\nquery = '/rooms/:alias'\n",
        "rooms.settings.query",
        6,
    ),
    (
        HTTP + "[plugins.rooms.settings]\nsource = 'd'\nquery = '/rooms?a=$alias'\n",
        "rooms.settings.query",
        6,
    ),
    ("[plugins.rooms.settings]\nfiles = ['rooms/*.toml']", "rooms.settings.files[0]", 2),
    ("[plugins.rooms.settings]\nfiles = ['a.toml', 'a.toml']", "rooms.settings.files[1]", 2),
]
"""What is written, the end of the key that is wrong, and its line."""


def checked(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


def problems_of(folder: Path, content: str | bytes) -> list[dict[str, Any]]:
    """Return what check says of a file that it refuses."""
    file = folder / "config.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = checked("--json", file)
    assert done.exit_code == 78, done
    return list(json.loads(done.stdout)["errors"])


@pytest.mark.parametrize(("text", "key", "line"), MISTAKES)
def test_a_mistake_is_refused_with_its_key_and_line(
    tmp_path: Path, text: str, key: str, line: int | None
) -> None:
    problems = problems_of(tmp_path, text)
    assert (key, line) in [(one["key"][-len(key) :], one["line"]) for one in problems], problems
    for one in problems:
        assert "instance of" not in one["message"]
        assert "valid dictionary" not in one["message"]


FILES: list[tuple[bytes, int | None]] = [
    (b"a = 1\nb = '\xe6\xf8\xe5'\n", None),
    ("[server]\nport = 1\n".encode("utf-16"), None),
    ("[server]\n".encode("utf-16-le"), None),
    (b"\x7fELF\x02\x01\x01\x00\x00\x03\xff", None),
    (b"server:\n  port: 8000\n", 1),
    (b"---\nserver:\n", 1),
    (b"# rooms\n- name: x\n", 2),
    (b'{"server": {"port": 8000}}', 1),
    (b'[\n  {"name": 1}\n]', 1),
    (b"<config/>", 1),
    (b"[server]\nport = 1\nhost = '127.0.0.1\n", 3),
    (b'[server]\nhost = "127.0.0.1\nport = 1\n', 2),
    (b"[access]\nnetworks = ['10.1.0.0/16' '10.2.0.0/16']\n", 2),
    (b"[server]\nhost = \xe2\x80\x9c127.0.0.1\xe2\x80\x9d\n", 2),
    (b"[server]\nport = 1\n# x\nport = 2\n", 4),
    (b"[server\nport = 1\n", 1),
    (b"[server]\nport = 1\n[server]\n", 3),
    (b"[server]\nhost = 10.0.0.1\n", 2),
    (b"[server]\nallow_anonymous = True\n", 2),
    (b"[server]\nport: 8000\n", 2),
    (b"[server]\nport 8000\n", 2),
    (b"[server]\nbase path = '/x'\n", 2),
    (b"[server]\nport = 8000;\n", 2),
    (b"[server]\nport = 8000,\n", 2),
    (b"[access]\nnetworks = [10.44.0.0/16]\n", 2),
    (b"[server]\nport = 8000 // web\n", 2),
    (b"; web\n[server]\n", 1),
    (b"[server]\nport =\n", 2),
    (b"[server]\nport =\xc2\xa08000\n", 2),
    (b"[access]\nnetworks = ['10.0.0.0/8',\n[server]\n", 3),
    (b"[plugins.rooms.settings.rooms]\na = {\n name = 'A' }\n", 2),
    (b"plugins.rooms.priority = 5\n[plugins.rooms]\n", 2),
    (b'[tls]\nkey = "C:\\Users\\x"\n', 2),
    (b"[x]\nvalid_until = 12/24/2030\n", 2),
    (b"[x]\nvalid_until = 2030-02-30\n", 2),
    (b"<<<<<<< HEAD\n[server]\n", 1),
    (b"[server]\nport = ${PORT}\n", 2),
    (b"[server]\nport == 8000\n", 2),
    (b"[auth]\nx = { user = 'a', }\n", 2),
    (b"[x]\na = { name = 'A',\n pin = '1' }\n", 2),
    (b"[access]\nnetworks =\n  - 10.0.0.0/8\n", 2),
    (b"[p.rooms.a]\nname = 'x'\n[[p.rooms]]\n", 3),
    (b"rooms.sip:a@b.c.name = 'x'\n", 1),
    (b"[plugins.rooms\nname = 'x'\n", 1),
    (b"aliases,name\nx,X\n", 1),
    (b"PK\x03\x04\x14\x00\x06\x00", None),
    (b"a = " + b"9" * 5000, None),
    (b"a = " + b"[" * 100_000, None),
]
"""Files that are not TOML, and the line that is wrong."""


@pytest.mark.parametrize(("content", "line"), FILES)
def test_a_file_that_is_not_toml_is_refused_with_the_line(
    tmp_path: Path, content: bytes, line: int | None
) -> None:
    (problem,) = problems_of(tmp_path, content)
    assert problem["line"] == line
    assert re.search("is (not|UTF-16)", problem["message"])


MEANINGS: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
    (ROOM + "host_pin = '1234'", ("pin, ",), ("guest_pin",)),
    (ROOM + "alow_guests = true", ("'allow_guests'",), ()),
    (RULE + "when.time = { zone = 'Europe/Oslo', not_between = [] }", ("between",), ("mean",)),
    ("[server]\nbind = 'x'", ("host", "port"), ("mean",)),
    ("[auth]\nuser = 'a'\npassword = 'x'", ("password_env", "password_file"), ()),
    ("[server.auth]\nuser = 'a'", ("[auth]",), ()),
    ("server.plugin_dirs = []", ("top of the file",), ()),
    ("[plugins.rooms]\ndefault_room = 'x'", ("[plugins.rooms.settings]",), ()),
    ("[plugins.rooms.settings]\ntimeout = 2", ("[plugins.NAME]",), ()),
    ("[plugins.upstream.settings]\nurl = 'https://a'", ("targets, routes",), ()),
    (RULE + "action = 'reject'", ("name, endpoint, when, then",), ()),
    ("[ssl]", ("tls", "[plugins.ssl]"), ("mean",)),
    ("[plugins.rooms]\ntimeout = 500", ("4.5",), ()),
    ("[plugins.rooms]\non_error = 'deny'", ("'skip' or 'reject'",), ("mean",)),
    ("[server]\nport = '8000'", ("without quotes",), ()),
    ("[server]\nallow_anonymous = 'yes'", ("true or false without quotes",), ()),
    (ROOM + "pin = 1234", ("in quotes",), ()),
    ("[access]\nnetworks = '10.0.0.0/8'", ("square brackets",), ()),
    ("[[server]]\nport = 8000", ("[NAME]",), ()),
    ("[plugins.rules.settings.rules]\nname = 'r'", ("[[NAME]]",), ()),
    ("[[plugins.upstream.settings.targets]]", ("[NAME]",), ()),
    ("[console]\nusers = ['a']", ("[NAME]",), ()),
    ("[sources.d]\ndriver = 'http'\ntoken = 'x'\n" + OF_SOURCE, ("token_env",), ()),
    (RULE.replace("endpoint", "#"), ("'service_configuration'", "'media_location'"), ()),
]
"""What is written, what a message names, and what would change the meaning."""


@pytest.mark.parametrize(("text", "named", "other"), MEANINGS)
def test_a_message_names_what_to_write_and_nothing_of_another_meaning(
    tmp_path: Path, text: str, named: tuple[str, ...], other: tuple[str, ...]
) -> None:
    said = [one["message"] for one in problems_of(tmp_path, text)]
    assert any(all(word in one for word in named) for one in said), said
    assert not [word for word in other if any(f"mean {word!r}" in one for one in said)], said
    assert "mean" not in other or not any("did you mean" in one for one in said), said


PASSWORD = "[auth]\nuser = 'a'\npassword_file = 'secret'\n"
OF_VARIABLE = "[auth]\nuser = 'a'\npassword_env = 'SECRET_4711'\n"
SUBNETS = "[plugins.locations.settings]\ncsv = 'subnets.csv'\n"
BLUE = (
    "[infinity]\nthemes = ['Blue']\n[plugins.rooms.settings.rooms.'SIP:Meet@A.example']\n"
    "name = 'M'\nivr_theme_name = 'Bleu'"
)
SAID: list[tuple[str, dict[str, bytes], int, tuple[str, ...]]] = [
    (SUBNETS, {"subnets.csv": b"subnet\tlocation\n10.0.0.0/8\tOslo"}, 78, ("line 1", ", or ;")),
    (SUBNETS, {"subnets.csv": b"subnet,location\n1,\xd8st"}, 78, ("line 2", "as CSV UTF-8")),
    (SUBNETS, {"subnets.csv": "subnet".encode("utf-16")}, 78, ("line 1", "UTF-16")),
    (SUBNETS, {"subnets.csv": b"subnet,location,overflow"}, 78, ("'overflow'", "overflow_loc")),
    (SUBNETS, {"subnets.csv": b"network,location"}, 78, ("line 1", "'network'", "subnet")),
    (BLUE, {}, 78, ('"SIP:Meet@A.example".ivr_theme_name',)),
    ("[tls]\ncertificate = \"a\\u0000\"\nkey = 'k'", {}, 78, ("its name holds a NUL character",)),
    (PASSWORD.replace("'secret'", '"a\\u0000"'), {}, 78, ("its name holds a NUL character",)),
    ('[audit]\npath = "a\\u0000"', {}, 0, ("has no meaning in a path",)),
    ("[audit]\npath = 'a'\nspool = \"a\\u0000\"", {}, 0, ("has no meaning in a path",)),
    ("[audit]\npath = '.'", {}, 0, ("audit.path: ", " is a folder; name a file")),
    *(
        (PASSWORD, {"secret": lines}, 78, ("auth.password_file: the file has several lines",))
        for lines in (b"one\ntwo\n", b"one\r\ntwo", b"\n one")
    ),
    (OF_VARIABLE, {"SECRET_4711": b"a long password\n"}, 0, ()),
    (OF_VARIABLE, {"SECRET_4711": b"one\ntwo"}, 78, ("SECRET_4711 has several lines",)),
    (OF_VARIABLE, {"SECRET_4711": b"\n"}, 78, ("SECRET_4711 is empty",)),
    (
        OF_VARIABLE,
        {"SECRET_4711": b'"a long password"'},
        0,
        ("of a has quotes or blanks around it",),
    ),
    *(
        (
            OF_VARIABLE.replace("SECRET_4711", name),
            {},
            78,
            ("such as PEXPOLICY_PASSWORD, without $",),
        )
        for name in ("S3cret!pass", "$PEXPOLICY_PASSWORD", "correct horse")
    ),
    (PASSWORD, {"secret": b" a long password\n"}, 0, ("has quotes or blanks around it",)),
    (
        PASSWORD,
        {"secret": b"PASSWORD=a-long-one\n"},
        0,
        ("or NAME= before it",),
    ),
    (PASSWORD, {"secret": b"a long password\n"}, 0, ()),
    (PASSWORD, {"secret": b"$6$ and a long password of several words"}, 0, ()),
    (PASSWORD, {"secret": b"$money$-is-no-hash-however-long-it-may-be"}, 0, ()),
]
"""A configuration, its files and variables, the exit code of check, and words that it prints."""


@pytest.mark.parametrize(("text", "files", "code", "words"), SAID)
def test_check_names_what_is_wrong_with_a_file_or_secret(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    files: dict[str, bytes],
    code: int,
    words: tuple[str, ...],
) -> None:
    for name, content in files.items():
        if name.isupper():
            monkeypatch.setenv(name, content.decode())
            continue
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "config.toml").write_text(text)
    done = checked(tmp_path / "config.toml")
    assert done.exit_code == code
    assert [word for word in words if word not in done.stderr] == []
    assert words or "warning" not in done.stderr
    secrets = [content.decode().strip() for content in files.values() if "[auth]" in text]
    assert not [secret for secret in secrets if len(secret) > 6 and secret in done.stderr]
    assert not re.search("S3cret|correct horse|^ .*PEXPOLICY_PASSWORD'", done.stderr, re.MULTILINE)


def test_a_hash_of_a_password_belongs_to_the_user_of_auth(tmp_path: Path) -> None:
    made = CliRunner().invoke(main, ["hash-password"], input="correct horse battery\n")
    text = f"[auth]\nuser = 'pexip'\npassword_hash = '{made.stdout.strip()}'\n"
    (tmp_path / "config.toml").write_text(text)
    assert checked("-c", tmp_path / "config.toml").exit_code == 0
    (tmp_path / "config.toml").write_text("[server]\nallow_anonymous = true\n" + text)
    assert "has no effect, as [auth]" in checked("-c", tmp_path / "config.toml").stderr
    (tmp_path / "config.toml").write_text(text.replace("user = 'pexip'\n", ""))
    assert (
        "name the user that the password belongs to"
        in checked("-c", tmp_path / "config.toml").stderr
    )


@pytest.mark.parametrize("named", [True, False])
def test_a_key_with_a_password_is_reported_as_one(tmp_path: Path, named: bool) -> None:
    certificates.write_pair(tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"right"),
    )
    (tmp_path / "enc.key").write_bytes(locked)
    text = "[tls]\ncertificate = 'server.pem'\nkey = 'enc.key'\n"
    if named:
        (tmp_path / "password").write_text("wrong")
        text += "key_password_file = 'password'\n"
    (tmp_path / "config.toml").write_text(text)
    said = checked("-c", tmp_path / "config.toml")
    assert said.exit_code == 78
    assert "has another password than the one that is configured in tls.key_p" in said.stderr


WARNINGS: list[tuple[str, str, str]] = [
    ("[audit]\npath = 'missing/audit.jsonl'", "audit.path", "mkdir -p"),
    ("[audit]\npath = '~/log/audit.jsonl'", "audit.path", "~"),
    ("[audit]\npath = '${LOGS}/audit.jsonl'", "audit.path", "${LOGS}"),
    ("[audit]\npath = '%h/audit.jsonl'", "audit.path", "%h"),
    ("[audit]\npath = 'C:\\log\\a.jsonl'", "audit.path", "\\"),
    ("[plugins.rooms]", "plugins.rooms.settings", "default_room"),
    ("[plugins.rules]", "plugins.rules.settings", "no rule"),
    ("[plugins.avatars.settings]\nfolder = 'photos'", "avatars.settings.folder", "no folder"),
    ("[access]\nnetworks = []", "access.networks", "every address"),
    ("[access]\nnetworks = ['10.1.0.0']", "access.networks[0]", "10.1.0.0/24"),
    ("[access]\nnetworks = ['0.0.0.0/0']", "access.networks[0]", "every address"),
    ("[server]\nport = 8300\n[console]\nport = 8300", "console.port", "server.port"),
    ("[console]\nhost = '0.0.0.0'", "console.host", "TLS"),
    (ROOM + "guest_pin = '471199'", "rooms.board", "allow_guests"),
    (ROOM + "guest_pin = '471199'\nallow_guests = true", "rooms.board", "Host PIN"),
    *(
        (f"{RULE}when.{written}", "rules[0]", advice)
        for written, advice in (
            ("local_alias.host = '@a.com'", "'a.com'"),
            ("local_alias.user = 'x@a.com'", "'x@a.com'"),
            ("remote_address = '10.1.0.0/16'", "in_subnet"),
            ("node_ip = 'node1.example.com'", "address"),
            ("local_alias.regex = 'sip:.*'", "raw"),
        )
    ),
]
"""What is written, the end of its key, and a word of the warning."""


@pytest.mark.parametrize(("text", "key", "word"), WARNINGS)
def test_a_setting_without_effect_or_with_an_open_door_is_a_warning(
    text: str, key: str, word: str, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(text)
    done = checked("--json", tmp_path / "config.toml")
    assert done.exit_code == 0
    warnings = json.loads(done.stdout)["warnings"]
    assert any(one["key"].endswith(key) and word in one["message"] for one in warnings), warnings


# ---- files that others can read or change


SECRETS: list[tuple[str, str, str]] = [
    (ROOM + "pin = '4711'", "config.toml", ""),
    ("[auth]\nuser = 'a'\npassword_file = 'secret'", "secret", "auth"),
    ("[admin]\ntoken_file = 'secret'", "secret", "admin.token_file"),
    ("[privacy]\npersonal = 'hashed'\nkey_file = 'secret'", "secret", "privacy.key_file"),
    (UPSTREAM + "user = 'a'\npassword_file = 'secret'", "secret", "targets.t.password_file"),
    ("[tls]\ncertificate = 'server.pem'\nkey = 'server.key'", "server.key", "tls.key"),
]


@pytest.mark.parametrize(("text", "file", "key"), SECRETS)
@pytest.mark.parametrize(
    ("mode", "others"), [(0o644, "every user"), (0o640, "its group"), (0o600, "")]
)
def test_a_secret_that_others_can_read_is_reported_with_the_command(
    tmp_path: Path, text: str, file: str, key: str, mode: int, others: str
) -> None:
    (tmp_path / "secret").write_text("a-long-secret-of-many-letters")
    if "[tls]" in text:
        certificates.write_pair(tmp_path)
    (tmp_path / "config.toml").write_text(text)
    (tmp_path / file).chmod(mode)
    said = checked("-c", tmp_path / "config.toml")
    assert said.exit_code == 0, said.stderr
    place = tmp_path / file
    told = f"{place} can be read by {others}: chmod 600 {place}"
    assert (told in said.stderr) is bool(others)
    assert not others or f"{key}: {told}" in said.stderr or not key


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rooms.csv", "sep=;\naliases;name;pin\na;A;471147\n"),
        ("rooms.csv", "sep=,\nAliases,Name,PIN\na,A,471147\n"),
        ("rooms.csv", "\n \nAliases,Name,PIN\na,A,471147\n"),
        ("rooms.csv", "Aliases,Name,PIN\na@example.com,A,482913\n"),
        ("rooms.txt", "aliases,name,Guest PIN,allow_guests\na,A,,\n"),
    ],
)
def test_a_table_with_secrets_is_found_however_it_is_written(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / name).chmod(0o644)
    (tmp_path / "config.toml").write_text(f"[plugins.rooms.settings]\ncsv = '{name}'\n")
    said = checked("-c", tmp_path / "config.toml")
    assert f"plugins.rooms.settings.csv: {tmp_path / name} can be read by every user" in said.stderr


def loose(path: Path) -> None:
    path.chmod(0o777 if path.is_dir() else 0o666)


WRITABLE: list[tuple[str, str]] = [
    ("config.toml", ""),
    (".", ""),
    ("plug", "plugin_dirs[0]: "),
    ("plug/own.py", "plugin_dirs[0]: "),
    ("log", "audit.path: "),
    ("log/audit.jsonl", "audit.path: "),
]


@pytest.mark.parametrize(("name", "key"), WRITABLE)
def test_what_others_can_change_is_reported(tmp_path: Path, name: str, key: str) -> None:
    for folder in ("plug", "log"):
        (tmp_path / folder).mkdir()
    (tmp_path / "plug" / "own.py").write_text("")
    (tmp_path / "log" / "audit.jsonl").touch()
    text = "plugin_dirs = ['plug']\n[audit]\npath = 'log/audit.jsonl'\n"
    (tmp_path / "config.toml").write_text(text)
    assert "can be changed" not in checked("-c", tmp_path / "config.toml").stderr
    loose(tmp_path / name)
    path = (tmp_path / name).absolute()
    said = checked("-c", tmp_path / "config.toml").stderr
    assert f"warning: {key}{path} can be changed by every user: chmod o-w {path}" in said


def test_everybody_may_write_into_a_folder_with_the_sticky_bit(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    tmp_path.chmod(0o1777)
    assert "can be changed" not in checked("-c", tmp_path / "config.toml").stderr
