"""Mistakes of administrators: each message holds the words that lead out of it."""

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pexpolicy import __version__
from pexpolicy.cli.main import main
from pexpolicy.config import environment
from tests.support import certificates
from tests.support.waiting import HANG_S

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
CREDENTIAL = "[[auth.credentials]]\nuser = 'a'\n"

MISTAKES: list[tuple[str, str, tuple[str, ...]]] = [
    # A wrong name, and the right one.
    (ROOM + "host_pin = '1234'", "host_pin", ("did you mean 'pin'?",)),
    (ROOM + "hostpin = '1234'", "hostpin", ("did you mean 'pin'?",)),
    (ROOM + "guest_password = '1234'", "guest_password", ("did you mean 'guest_pin'?",)),
    (ROOM + "password = '1234'", "password", ("did you mean 'pin'?",)),
    (ROOM + "type = 'lecture'", "type", ("did you mean 'service_type'?",)),
    (ROOM + "theme = 'x'", "theme", ("did you mean 'ivr_theme_name'?",)),
    (ROOM + "tag = 'x'", "tag", ("did you mean 'service_tag'?",)),
    (ROOM + "layout = '1:7'", "layout", ("did you mean 'view'?",)),
    (ROOM + "max_participants = 9", "max_participants", ("did you mean 'participant_limit'?",)),
    (ROOM + "pni = '1234'", "pni", ("did you mean 'pin'?",)),
    (ROOM + "alow_guests = true", "alow_guests", ("did you mean 'allow_guests'?",)),
    (
        "[tls]\ncert = 'a.pem'\nkey = 'b.pem'",
        "tls.cert",
        ("did you mean 'certificate'?",),
    ),
    ("[tls]\ncertfile = 'a'\nkeyfile = 'b'", "tls.keyfile", ("did you mean 'key'?",)),
    ("[tls]\ncertificate = 'a'\nkey = 'b'\nca = 'c'", "tls.ca", ("did you mean 'client_ca'?",)),
    ("[ssl]", "ssl", ("did you mean 'tls'?",)),
    ("[server]\nbind = '127.0.0.1'", "server.bind", ("did you mean 'host'?",)),
    ("[server]\nlisten = '127.0.0.1'", "server.listen", ("did you mean 'host'?",)),
    ("[logging]", "logging", ("decisions are logged by [audit], all else by [log]",)),
    ("[metrics]\nenabled = true", "metrics", ("on by default", "[admin]")),
    ("[rooms.x]\nname = 'x'", "rooms", ("[plugins.rooms.settings.rooms.ALIAS]",)),
    ("[[rules]]\nname = 'x'", "rules", ("[[plugins.rules.settings.rules]]",)),
    ("[domains]\nallowed = []", "domains", ("[plugins.domains.settings]",)),
    (AUDIT + "rotate = 'daily'", "audit.rotate", ("rotate_hours = 24",)),
    (AUDIT + "max_size = '10MB'", "audit.max_size", ("rotate_mb = 10",)),
    (AUDIT + "rotate_days = 1", "audit.rotate_days", ("rotate_hours = 24",)),
    (AUDIT + "chain = true", "audit.chain", ("always", "leave the key out")),
    (AUDIT + "retention = 3", "audit.retention", ("did you mean 'keep'?",)),
    ("[audit]\nfile = 'a'", "audit.file", ("did you mean 'path'?",)),
    ("[access]\nproxies = []", "access.proxies", ("did you mean 'trusted_proxies'?",)),
    ("[access]\nallow = []", "access.allow", ("did you mean 'networks'?",)),
    ("[auth]\nusername = 'a'\npassword_env = 'A'", "auth.username", ("did you mean 'user'?",)),
    (
        "[plugins.locations.settings]\nfile = 'a.csv'",
        "locations.settings.file",
        ("did you mean 'csv'?",),
    ),
    (
        "[plugins.rules.settings]\nfile = 'a.toml'",
        "rules.settings.file",
        ("did you mean 'files'?",),
    ),
    (
        "[plugins.rules.settings]\ninclude = 'a.toml'",
        "rules.settings.include",
        ("did you mean 'files'?",),
    ),
    (
        "[plugins.upstream.settings]\nurl = 'https://a'",
        "upstream.settings.url",
        ("it is a key of targets.NAME",),
    ),
    (
        "[plugins.upstream.settings]\npassword_file = 'a'",
        "upstream.settings.password_file",
        ("it is a key of targets.NAME",),
    ),
    (UPSTREAM + "ca_cert = 'a.pem'", "targets.t.ca_cert", ("did you mean 'ca_file'?",)),
    (
        RULE + "when.time = { between = ['18:00', '08:00'] }",
        "when.time.zone",
        ("is missing: a name of the IANA time zone database, such as Europe/Oslo",),
    ),
    (
        "[audit]\npath = 'syslog://localhost'",
        "audit.path",
        ("is a URL", "pexpolicy serve | logger -t pexpolicy"),
    ),
    ("[server]\nallow_anonymous = 'on'", "allow_anonymous", ("write true without quotes",)),
    *(
        ("[plugins.rooms.settings]\nfiles = " + files, "settings.files", ("write csv = 'r.csv'",))
        for files in ("'r.csv'", "['a.toml', 'r.csv']")
    ),
    (CREDENTIAL + "password_file = 'gone'", "password_file", ("write the password into it",)),
    *(
        (f"[admin]\nport = {off}", "admin.port", ("write enabled = false",))
        for off in ("false", "'off'")
    ),
    ("[admin]\ntoken = 'a'", "admin.token", ("write token_env or token_file",)),
    (ROOM + "default_room = 'x'", "board.default_room", ("a key of [plugins.NAME.settings]",)),
    (ROOM + "timeout = 2", "board.timeout", ("a key of [plugins.NAME] itself",)),
    ("[plugins]\norder = ['rooms']", "plugins.order", ("in the order of their priority",)),
    (
        RULE + "[plugins.rules.settings.rules.when]\nlocal_alias = 'a'\nthen = 'reject'",
        "rules[0].when.then",
        ("it is a key of the rule: write it above [",),
    ),
    (
        RULE + "when.time = { zone = 'Europe/Oslo', hours = ['08:00', '18:00'] }",
        "when.time.hours",
        ("write between = [",),
    ),
    (
        "[tls]\ncertificate = '${CREDENTIALS_DIRECTORY}/a.pem'\nkey = 'b'",
        "tls.certificate",
        ("${CREDENTIALS_DIRECTORY} is not replaced here: write the whole path",),
    ),
    ("[server]\nallow_anonymous = 0", "allow_anonymous", ("not 0; write false",)),
    ("[access]\nnetworks = ['any']", "access.networks[0]", ("leave the list out",)),
    ("[server]\nhost = '[::1'", "server.host", ("without brackets, such as ::1",)),
    ("[server]\nhost = '::1:8000'", "server.host", ("port is a key of its own",)),
    ("[server]\nhost = ':8000'", "server.host", ("port is a key of its own",)),
    (
        UPSTREAM + "[plugins.upstream.settings.targets.u]\nurl = 'https://p.example.com /'",
        "targets.u.url",
        ("must not contain blanks",),
    ),
    (
        UPSTREAM + "[plugins.upstream.settings.targets.u]\nurl = 'https://{host}/'",
        "targets.u.url",
        ("must not contain blanks, braces",),
    ),
    (
        UPSTREAM + "[plugins.upstream.settings.targets.u]\nurl = 'http://::1:8000'",
        "targets.u.url",
        ("in brackets, as in http://[::1]:8000",),
    ),
    (
        UPSTREAM + "[plugins.upstream.settings.targets.u]\nurl = 'https://p.example.com//api/'",
        "targets.u.url",
        ("has // in its path", "write each / once"),
    ),
    (
        "[infinity.extra_values]\nservce_type = ['x']",
        "infinity.extra_values.servce_type",
        ("no field with a fixed set of values", "did you mean 'service_type'?"),
    ),
    (
        "[plugins.sql.settings]\nqueries = {}",
        "plugins.sql.settings.source",
        ("is missing: NAME of a table [sources.NAME]",),
    ),
    (RULE + "when.local_alias.starts_with = 'a'", "starts_with", ("did you mean 'prefix'?",)),
    (RULE + "when.local_alias.startswith = 'a'", "startswith", ("did you mean 'prefix'?",)),
    (RULE + "when.local_alias.ends_with = 'a'", "ends_with", ("did you mean 'suffix'?",)),
    (RULE + "when.local_alias.matches = 'a'", "matches", ("did you mean 'regex'?",)),
    (RULE + "when.local_alias.pattern = 'a'", "pattern", ("did you mean 'regex'?",)),
    (RULE + "when.local_alias.in = ['a']", "in", ("did you mean 'one_of'?",)),
    (RULE + "when.remote_address.network = '10.0.0.0/8'", "network", ("'in_subnet'?",)),
    (
        RULE + "when.time = { timezone = 'Europe/Oslo', weekdays = ['monday'] }",
        "time.timezone",
        ("did you mean 'zone'?",),
    ),
    (
        "[[plugins.rules.settings.rules]]\nname = 'r'\nthen = 'reject'",
        "rules[0].endpoint",
        ("is missing; write one of 'service_configuration', 'participant_properties'",),
    ),
    (RULE + "action = 'reject'", "rules[0].action", ("it is a key of then: write then.action",)),
    ("[plugins.romms]", "plugins.romms", ("'rooms'",)),
    (
        RULE.replace("'reject'", "{ call_tag = 'x' }"),
        "then.call_tag",
        ("write a field of the answer in then.result",),
    ),
    ("[plugins.rooms]\non_eror = 'skip'", "plugins.rooms.on_eror", ("did you mean 'on_error'?",)),
    (
        "[plugins.rooms]\ndefault_room = 'x'",
        "plugins.rooms.default_room",
        ("belong under [plugins.rooms.settings]",),
    ),
    # A key in the wrong place.
    (ROOM + "plugin_dirs = ['plug']", "plugin_dirs", ("top-level key", "before the first [table]")),
    (
        "[server]\nport = 1\nplugin_dirs = ['plug']",
        "server.plugin_dirs",
        ("top-level key", "before the first [table]"),
    ),
    (
        RULE + "plugin_dirs = ['plug']",
        "plugin_dirs",
        ("top-level key", "before the first [table]"),
    ),
    (
        UPSTREAM + "password = 'x'",
        "targets.t.password",
        ("never in this file", "password_env or password_file"),
    ),
    (
        "[auth]\nuser = 'a'\npassword = 'x'",
        "auth.password",
        ("never in this file", "password_hash"),
    ),
    (CREDENTIAL + "password = 'x'", "auth.credentials[0].password", ("password_hash",)),
    # A value of another form.
    (
        RULE + "when.time = '18:00-08:00'",
        "when.time",
        ('time = { zone = "Europe/Oslo", between = ["18:00", "08:00"] }',),
    ),
    (
        RULE + "when.time = { zone = 'Europe/Oslo', between = '18:00-08:00' }",
        "when.time.between",
        ("between = ['18:00', '08:00']",),
    ),
    (
        RULE + "when.time = { zone = 'Europe/Oslo', between = ['18:00', '24:00'] }",
        "when.time.between",
        ("'24:00'", "midnight is '00:00'"),
    ),
    (
        RULE + "when.time = { zone = 'Oslo', weekdays = ['monday'] }",
        "when.time.zone",
        ("Europe/Oslo",),
    ),
    (
        "[plugins.rooms]\npriority = 'high'",
        "plugins.rooms.priority",
        ("not 'high'", "as in 100"),
    ),
    ("[plugins.rooms]\npriority = '10'", "plugins.rooms.priority", ("write it without quotes",)),
    (
        AUDIT + "rotate_mb = '100MB'",
        "audit.rotate_mb",
        ("write a number, without quotes and without a unit",),
    ),
    ("[plugins.rooms]\ntimeout = '1s'", "plugins.rooms.timeout", ("without a unit",)),
    ("[server]\nport = '8000'", "server.port", ("write it without quotes",)),
    ("[server]\nallow_anonymous = 'yes'", "server.allow_anonymous", ("write true without quotes",)),
    ("server = 'x'", "server", ("must be a table, as in server = { … }",)),
    ("[server]\nbase_path = '/policy/v1'", "server.base_path", ("leave out /policy/v1",)),
    ("[server]\nbase_path = '/büro'", "server.base_path", ("ASCII letters",)),
    ("[server]\nbase_path = '/a/../b'", "server.base_path", ("no part . or ..",)),
    ("[server]\nbase_path = '//a'", "server.base_path", ("between single slashes",)),
    ("[access]\nnetworks = ['10.1.2.3/16']", "access.networks", ("10.1.0.0/16",)),
    ("[server]\nport = 9107", "admin.port", ("9107 is already server.port", "choose another")),
    (
        "[admin]\ntoken_env = 'UNSET_4711'",
        "admin.token_env",
        ("UNSET_4711 is not set; set it, or write token_file",),
    ),
    (ROOM + "pin = 1234", "board.pin", ("in quotes",)),
    (ROOM + "allow_guests = 'true'", "board.allow_guests", ("without quotes",)),
    (
        "[server]\nhost = '0.0.0.0'",
        "server.host",
        ("there is no [auth]", "allow_anonymous = true"),
    ),
    (RULE + "when.caller.prefix = 'x'", "when.caller", ("did you mean 'remote_alias'?",)),
    (RULE + "when.to.prefix = 'x'", "when.to", ("did you mean 'local_alias'?",)),
    (RULE + "when.ip = '10.0.0.1'", "when.ip", ("did you mean 'remote_address'?",)),
    (
        "[[plugins.rooms.settings.rooms]]\nname = 'Board'",
        "plugins.rooms.settings.rooms",
        ("should be a table", "write [….rooms.NAME] for each"),
    ),
    ("[access]\nnetworks = '10.1.0.0/16'", "access.networks", ("in square brackets",)),
    ("[plugins.domains.settings]\nallowed = ['acme,example']", "allowed[0]", ("not a domain",)),
    ("[auth]\npassword_env = 'A'", "auth", ('user = "pexip"',)),
    ("[[auth.users]]\nuser = 'a'", "auth.users", ("did you mean 'credentials'?",)),
    # Time zones and times.
    ("[plugins.rooms.settings]\nzone = 'Oslo'", "zone", ("did you mean 'Europe/Oslo'?",)),
    ("[plugins.rooms.settings]\nzone = 'europe/oslo'", "zone", ("did you mean 'Europe/Oslo'?",)),
    ("[plugins.rooms.settings]\nzone = 'CEST'", "zone", ("'CEST'; write one with a city",)),
    ("[plugins.rooms.settings]\nzone = 'GMT+1'", "zone", ("'GMT+1'; write one with a city",)),
    ("[plugins.rooms.settings]\nzone = '+01:00'", "zone", ("'+01:00'; write one with a city",)),
    (
        "[plugins.rooms.settings]\nzone = 'W. Europe Standard Time'",
        "zone",
        ("'W. Europe Standard Time'; write one with a city",),
    ),
    *(
        (
            f"{RULE}when.time = {{ zone = 'Europe/Oslo', between = [{written}, '17:00'] }}",
            "when.time.between",
            (f"{written} is not a time of day; {advice}",),
        )
        for written, advice in (
            *(("'9:00'", "write '09:00'"), ("'8.30'", "write '08:30'"), ("'7am'", "write '07:00'")),
            *(("'12 am'", "write '00:00'"), ("'11pm'", "write '23:00'"), ("8", "write '08:00'")),
            *(("'25:00'", "write 00:00 to 23:59"), ("'noon'", "write it as in '08:00'")),
        )
    ),
    (
        RULE + "when.time = { zone = 'Europe/Oslo', dates = ['24.12.2030'] }",
        "when.time.dates",
        ("'24.12.2030' is not a date; write year, month and day",),
    ),
    (
        RULE + "when.time = { zone = 'Europe/Oslo', from = '08:00' }",
        "when.time.from",
        ("did you mean 'between'?",),
    ),
    *(
        (
            f"{RULE}when.time = {{ zone = 'Europe/Oslo', weekdays = {written} }}",
            "when.time.weekdays",
            (f"not a list of weekdays in English; write {meant}",),
        )
        for written, meant in (
            ("'monday-wednesday'", "['monday', 'tuesday', 'wednesday']"),
            ("['Fri to Mon']", "['friday', 'saturday', 'sunday', 'monday']"),
            ("['Monday', 'Tue']", "['monday', 'tuesday']"),
            ("'weekend'", "['saturday', 'sunday']"),
            ("['lundi', 'mardi']", "some of 'monday', 'tuesday'"),
            ("[1, 2]", "some of 'monday', 'tuesday'"),
        )
    ),
    # Units and places.
    ("[plugins.rooms]\ntimeout = 500", "plugins.rooms.timeout", ("write 0.5 for 500 ms",)),
    ("[server]\nbudget = 4000", "server.budget", ("it is in seconds: write 4 for 4000 ms",)),
    ("[console]\nusers = ['a']", "console.users[0]", ("write [[console.users]] for each",)),
    ("[[console.logins]]\nuser = 'a'", "console.logins", ("did you mean 'users'?",)),
    ("[log]\nfile = 'x.log'", "log.file", ("lines go to standard error",)),
    (
        "[sources.d]\ndriver = 'sql'\nurl = 'sqlite:///x.db'\n" + OF_SOURCE,
        "sources.d",
        ("write the file of a SQLite database in path",),
    ),
    (
        "[sources.d]\ndriver = 'postgres'\n" + OF_SOURCE,
        "sources.d.driver",
        ("did you mean 'sql'?",),
    ),
    (
        "[sources.d]\nurl = 'postgresql://u@h/db'\n" + OF_SOURCE,
        "rooms.settings.source",
        ("the table [sources.d] has an error",),
    ),
    (
        "[sources.d]\ndriver = 'http'\nurl = 'https://a.example.com'\ntoken = 'x'\n" + OF_SOURCE,
        "sources.d.token",
        ("did you mean 'token_env'?",),
    ),
    # Addresses and networks.
    ("[server]\nhost = '127.0.0.1:8000'", "server.host", ("port is a key of its own",)),
    ("[server]\nhost = 'http://127.0.0.1'", "server.host", ("without a scheme or path",)),
    ("[server]\nhost = ' 127.0.0.1'", "server.host", ("has blanks around it",)),
    ("[admin]\nhost = '*'", "admin.host", ("every address is 0.0.0.0",)),
    *(
        (f"[access]\nnetworks = ['{written}']", "access.networks[0]", (advice,))
        for written, advice in (
            ("10.1.0.0 255.255.0.0", "write 10.1.0.0/16"),
            ("10.1.0.0 /16", "write 10.1.0.0/16"),
            ("010.001.0.0/16", "write 10.1.0.0/16"),
            ("10.1.*", "write 10.1.0.0/16"),
            ("10.1.2.*", "write 10.1.2.0/24"),
            ("10.1.0.0-10.1.0.255", "write 10.1.0.0/24"),
            ("10.1.0.1 - 10.1.3.7", "a range is several subnets"),
            ("10.1.0.0/16, 10.2.0.0/16", "write each in quotes of its own"),
            ("node1.example.com", "names are not looked up: write the address"),
            ("10.1.0.0/33", "write 10.0.0.0/8, 2001:db8::/32 or a single address"),
        )
    ),
    # Brackets and places.
    ("[[server]]\nport = 8000", "server", ("write [server], not [[server]]",)),
    ("[server]\nhost = ['127.0.0.1']", "server.host", ("write one text, without brackets",)),
    (
        RULE.replace("[[", "[").replace("]]", "]"),
        "rules.settings.rules",
        ("write [[….rules]] for each, with two brackets",),
    ),
    (
        "[[plugins.rooms.settings.rooms.board]]\nname = 'B'",
        "rooms.board",
        ("write […] with single brackets, not [[…]]",),
    ),
    (
        "[plugins.rooms.settings.rooms.board.oslo]\nname = 'B'",
        "rooms.board",
        ('an alias with a dot needs quotes, as in "board.oslo"',),
    ),
    (
        "[plugins.rooms.settings.board]\nname = 'B'",
        "rooms.settings.board",
        ("did you mean [….rooms.board]?",),
    ),
    # Words of a fixed set, and of other programs.
    *(
        (f"{table} = '{written}'", table.rpartition("\n")[2], (f"did you mean '{meant}'?",))
        for table, written, meant in (
            ("[log]\nlevel", "warn", "warning"),
            ("[log]\nlevel", "INFO", "info"),
            ("[plugins.rooms]\non_error", "deny", "reject"),
            ("[plugins.rooms]\non_error", "ignore", "skip"),
            ("[privacy]\npersonal", "drop", "dropped"),
            ("[endpoints.service_configuration]\ndefault", "allow", "continue"),
            ("[tls]\ncertificate = 'a'\nkey = 'b'\nmin_version", "TLSv1.2", "1.2"),
            (
                RULE.rpartition(" = ")[0].replace("endpoint = 'service_configuration'\n", "")
                + " = 'reject'\nendpoint",
                "participants",
                "participant_properties",
            ),
            (RULE.rpartition(" = ")[0], "REJECT", "reject"),
            (RULE.rpartition(" = ")[0], "accept", "continue"),
        )
    ),
    *(
        (f"{RULE}{written}", key, (advice,))
        for written, key, advice in (
            ("priority = 5", "rules[0].priority", "in the order of the file: leave it out"),
            ("stop = true", "rules[0].stop", "the first rule that matches decides"),
            ("if.local_alias = 'x'", "rules[0].if", "did you mean 'when'?"),
            ("when.local_alias.in_list = ['x']", "local_alias.in_list", "did you mean 'one_of'?"),
            ("when.local_alias.begins_with = 'x'", "begins_with", "did you mean 'prefix'?"),
            ("when.call_info.local_alias = 'x'", "when.call_info", "write parameters alone"),
            ("when.user = 'x'", "when.user", "write local_alias.user or remote_alias.user"),
            ("when.any = []", "when.any", "has too few items: write 1 or more"),
        )
    ),
    (
        f"{AUDIT}plugins.rooms.settings.csv = 'rooms.csv'",
        "audit.plugins",
        ("it is a table at the top: write [plugins.rooms.settings]",),
    ),
    ("[server.auth]\nuser = 'a'", "server.auth", ("at the top: write [auth]",)),
    ("[audit]\npath = 'config.toml'", "audit.path", ("is this file", "name another")),
    *(
        (
            LOCATIONS.format(written),
            "settings.default.location",
            (advice,),
        )
        for written, advice in (
            ("OSLO DC", "did you mean 'Oslo DC'?"),
            ("Oslo DC; Bergen", "write one name, and the others in overflow_locations"),
            ("Stavanger", "if Infinity has it, add it there"),
            ("site", "if Infinity has it, add it there"),
        )
    ),
    *(
        (
            HTTP + OF_SOURCE.replace("select 1", written),
            "rooms.settings.query",
            (f"has {odd}, which is no parameter here: all rows are asked for",),
        )
        for written, odd in (("/rooms/:alias", ":alias"), ("/rooms?a=$alias", "$alias"))
    ),
    *(
        (f"[plugins.rooms.settings]\ncsv = '{written}'", "rooms.settings.csv", (advice,))
        for written, advice in (
            ("https://a.example.com/rooms.csv", "it is a URL: copy the file here"),
            ("rooms.csv ", "a blank at the end of its name"),
            ("confg.toml", "did you mean 'config.toml'?"),
            ("config.csv", "did you mean 'config.toml'?"),
        )
    ),
    (
        "[plugins.rooms.settings]\nfiles = ['rooms/*.toml']",
        "rooms.settings.files[0]",
        ("a * is no wildcard here: name each file",),
    ),
    (
        "[plugins.rooms.settings]\nfiles = ['a.toml', 'a.toml']",
        "rooms.settings.files[1]",
        ("a.toml is in the list already",),
    ),
    (
        "[plugins.rooms]\nenabled = false",
        "plugins.rooms.enabled",
        ("leave out the whole table",),
    ),
]
"""What is written, the end of its key, and words that the message must hold."""


def checked(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


@pytest.mark.parametrize(("text", "key", "words"), MISTAKES)
def test_a_mistake_is_reported_with_what_to_write(
    tmp_path: Path, text: str, key: str, words: tuple[str, ...]
) -> None:
    (tmp_path / "config.toml").write_text(text)
    said = checked("-c", tmp_path / "config.toml")
    assert said.exit_code == 78
    told = [line for line in said.stderr.splitlines() if f"{key}: " in line or f"'{key}'" in line]
    told += [line for line in said.stderr.splitlines() if line.strip().startswith(f"{key}[")]
    assert any(all(word in line for word in words) for line in told), said.stderr
    assert "instance of" not in said.stderr
    assert "valid dictionary" not in said.stderr


FILES: list[tuple[bytes, tuple[str, ...]]] = [
    (b"a = 1\nb = '\xe6\xf8\xe5'\n", ("line 2 is not UTF-8 text", "save the file as UTF-8")),
    ("[server]\nport = 1\n".encode("utf-16"), ("is UTF-16", "save the file as UTF-8")),
    ("[server]\n".encode("utf-16-le"), ("is UTF-16", "save the file as UTF-8")),
    (b"\x7fELF\x02\x01\x01\x00\x00\x03\xff", ("does not look like text",)),
    (b"server:\n  port: 8000\n", ("looks like YAML", "TOML is needed")),
    (b"---\nserver:\n", ("looks like YAML",)),
    (b"# rooms\n- name: x\n", ("looks like YAML",)),
    (b'{"server": {"port": 8000}}', ("looks like JSON", "TOML is needed")),
    (b'[\n  {"name": 1}\n]', ("looks like JSON",)),
    (b"<config/>", ("looks like XML",)),
    (b"[server]\nport = 1\nhost = '127.0.0.1\n", ("a closing quote is missing in line 3",)),
    (b'[server]\nhost = "127.0.0.1\nport = 1\n', ("line 2", "a closing quote is missing")),
    (
        b"[access]\nnetworks = ['10.1.0.0/16' '10.2.0.0/16']\n",
        ("line 2", "write a comma between two items"),
    ),
    (
        "[server]\nhost = \u201c127.0.0.1\u201d\n".encode(),
        ("line 2", "\u201c is not a TOML quote", 'a straight one, "'),
    ),
    (b"[server]\nport = 1\n# x\nport = 2\n", ("port is in line 2 already",)),
    (b"[server\nport = 1\n", ("Expected ']'", "line 1")),
    (b"[server]\nport = 1\n[server]\n", ("it is in line 1 already",)),
    (b"[server]\nhost = 10.0.0.1\n", ('write text in quotes, as in host = "',)),
    (b"[server]\nallow_anonymous = True\n", ("write true, in lower case",)),
    (b"[server]\nport: 8000\n", ("line 2", "write = and not : after a name")),
    (b"[server]\nport 8000\n", ("write = between a name and its value",)),
    (b"[server]\nbase path = '/x'\n", ("a name with a blank needs quotes",)),
    (b"[server]\nport = 8000;\n", ("remove the ; at the end of the line",)),
    (b"[server]\nport = 8000,\n", ("remove the , at the end of the line",)),
    (b"[access]\nnetworks = [10.44.0.0/16]\n", ('in quotes, as in ["10.0.0.0/8"]',)),
    (b"[server]\nport = 8000 // web\n", ("a comment begins with #",)),
    (b"; web\n[server]\n", ("a comment begins with #",)),
    (b"[server]\nport =\n", ("write a value after the =",)),
    ("[server]\nport =\u00a08000\n".encode(), ("U+00A0: write it again",)),
    (b"[access]\nnetworks = ['10.0.0.0/8',\n[server]\n", ("is a ] missing before this line?",)),
    (b"[plugins.rooms.settings.rooms]\na = {\n name = 'A' }\n", ("braces end on the same line",)),
    (b"plugins.rooms.priority = 5\n[plugins.rooms]\n", ("a line above has some of its keys",)),
    (b'[tls]\nkey = "C:\\Users\\x"\n', ("write the text in single quotes",)),
    (b"[x]\nvalid_until = 12/24/2030\n", ('write text in quotes, as in valid_until = "',)),
    (b"[x]\nvalid_until = 2030-02-30\n", ("there is no such day or time",)),
    (b"<<<<<<< HEAD\n[server]\n", ("git has left a conflict", "in line 1")),
    (b"[server]\nport = ${PORT}\n", ("variables are not replaced in this file",)),
    (b"[server]\nport == 8000\n", ("write a single =",)),
    (b"[auth]\nx = { user = 'a', }\n", ("write no comma before }",)),
    (b"[x]\na = { name = 'A',\n pin = '1' }\n", ("braces end on the same line",)),
    (b"[access]\nnetworks =\n  - 10.0.0.0/8\n", ("write a list in square brackets",)),
    (b"[p.rooms.a]\nname = 'x'\n[[p.rooms]]\n", ("line 1 has it with single brackets",)),
    (b"rooms.sip:a@b.c.name = 'x'\n", ("write a name with such characters in quotes",)),
    (b"[plugins.rooms\nname = 'x'\n", ("line 1", "write ] at the end of the line")),
    (b"aliases,name\nx,X\n", ("looks like CSV", "TOML is needed")),
    (b"PK\x03\x04\x14\x00\x06\x00", ("is a workbook (.xlsx, .ods or .xls) or an archive",)),
]


@pytest.mark.parametrize(("content", "words"), FILES)
def test_a_file_of_another_kind_is_recognised(
    tmp_path: Path, content: bytes, words: tuple[str, ...]
) -> None:
    (tmp_path / "config.toml").write_bytes(content)
    said = checked("-c", tmp_path / "config.toml")
    assert said.exit_code == 78
    for word in words:
        assert word in said.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"subnet\tlocation\n10.0.0.0/8\tOslo\n",
            ("line 1", "has tabs between its columns", ", or ;"),
        ),
        (b"subnet,location\n10.0.0.0/8,\xd8st\n", ("line 2", "save the file as CSV UTF-8")),
        ("subnet,location\n".encode("utf-16"), ("line 1", "is UTF-16")),
        (b"subnet,location,overflow\n", ("did you mean 'overflow_locations'?",)),
        (b"network,location\n", ("did you mean 'subnet'?",)),
    ],
)
def test_a_table_of_another_form_is_recognised(
    tmp_path: Path, content: bytes, words: tuple[str, ...]
) -> None:
    (tmp_path / "subnets.csv").write_bytes(content)
    (tmp_path / "config.toml").write_text("[plugins.locations.settings]\ncsv = 'subnets.csv'\n")
    said = checked("-c", tmp_path / "config.toml")
    assert said.exit_code == 78
    for word in words:
        assert word in said.stderr


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
    if named:
        assert "has another password than the one that is configured" in said.stderr
    else:
        assert "has a password: name it in tls.key_password_file or" in said.stderr


def test_a_room_is_called_as_it_is_written(tmp_path: Path) -> None:
    text = "[infinity]\nthemes = ['Blue']\n[plugins.rooms.settings.rooms.'SIP:Meet@A.example']\n"
    (tmp_path / "config.toml").write_text(f"{text}name = 'M'\nivr_theme_name = 'Bleu'\n")
    said = checked("-c", tmp_path / "config.toml")
    assert 'rooms."SIP:Meet@A.example".ivr_theme_name' in said.stderr


WARNINGS: list[tuple[str, tuple[str, ...]]] = [
    (
        "[audit]\npath = 'missing/audit.jsonl'",
        ("audit.path: there is no folder", "the server does not start without it: mkdir -p "),
    ),
    *(
        (f"[audit]\npath = '{written}/audit.jsonl'", ("audit.path", f"{odd} is not replaced here"))
        for written, odd in (
            ("~/log", "~"),
            ("$LOGS", "$LOGS"),
            ("${LOGS}", "${LOGS}"),
            ("%h", "%h"),
        )
    ),
    ("[audit]\npath = 'C:\\log\\a.jsonl'", ("audit.path: write / between folders",)),
    *(
        (f"{RULE}when.{written}", ("rules[0]: rule 'r'", advice))
        for written, advice in (
            (
                "local_alias.glob = '.*@example\\.com'",
                "expression: write local_alias.regex",
            ),
            ("local_alias.prefix = '+47*'", "a star, which means itself here: write '+47'"),
            ("local_alias.suffix = '*@a.com'", "a star, which means itself here: write '@a.com'"),
            ("local_alias.host = '@a.com'", "has an @, and no host has one: write 'a.com'"),
            ("local_alias.user = 'x@a.com'", "no user has one: write local_alias = 'x@a.com'"),
            ("remote_address = '10.0.0.*'", "which no address is equal to: write 10.0.0.0/24"),
            ("node_ip = 'node1.example.com'", "names are not looked up: write the address"),
        )
    ),
    ("[tracing]\nendpoint = 'http://a:4318'", ("tracing.endpoint: has no path", "/v1/traces")),
    (
        "[plugins.rooms.settings]\nzone = 'EST'\ndefault_room = 'x'",
        ("settings.zone", "has no summer time: write 'America/New_York'"),
    ),
    ("[audit]\npath = 'log/'", ("audit.path: names a file, and ends in /: write log/audit.jsonl",)),
    ("[audit]\npath = 'a.jsonl.gz'", ("audit.path: lines are not compressed", "leave .gz out")),
    *(
        (f"[audit]\npath = '{written}'", ("audit.path: leave path out: lines go to standard",))
        for written in ("-", "stdout", "/dev/stdout")
    ),
    ("[plugins.rooms]", ("plugins.rooms.settings: has no room and no default_room",)),
    ("[plugins.rules]", ("plugins.rules.settings: has no rule that is enabled",)),
    *(
        (f"[plugins.avatars.settings]\nfolder = '{written}'", ("avatars.settings.folder", advice))
        for written, advice in (
            ("photos", "there is no folder"),
            ("~/photos", "~ is not replaced here"),
            ("config.toml", "is a file: name the folder that it is in"),
        )
    ),
    ("[access]\nnetworks = []", ("access.networks", "an empty list admits every address")),
    *(
        (f"{ROOM}{name} = 'Company '", (f"board.{name}", "a blank at its start or end"))
        for name in ("ivr_theme_name", "local_display_name")
    ),
    ("[access]\nnetworks = ['10.1.0.0']", ("access.networks[0]", "write 10.1.0.0/24 if its netw")),
    ("[access]\nnetworks = ['0.0.0.0/0']", ("access.networks[0]", "is every address")),
    (
        "[server]\nport = 8300\n[console]\nport = 8300",
        ("console.port: 8300 is already server.port; choose another",),
    ),
    ("[console]\nhost = '0.0.0.0'", ("console.host: 0.0.0.0 is reachable by others without TLS",)),
    ("[console]\nfolder = 'config.toml'", ("console.folder", "config.toml is a file")),
    (
        RULE + "when.remote_address = '10.1.0.0/16'",
        ("plugins.rules.settings.rules[0]", "{ in_subnet = '10.1.0.0/16' }"),
    ),
    (
        "[[plugins.upstream.settings.routes]]\ntargets = ['t']\n"
        "when.local_alias.regex = 'sip:.*'\n" + UPSTREAM,
        ("plugins.upstream.settings.routes[0].when", "local_alias.raw.regex"),
    ),
    (
        "[plugins.rooms.settings]\nzone = 'Etc/GMT+1'\ndefault_room = 'x'",
        ("plugins.rooms.settings.zone", "write 'Etc/GMT-1' for UTC+1"),
    ),
    (
        RULE + "when.time = { zone = 'Europe/Oslo', between = ['02:00', '03:00'] }",
        ("rules[0]", "there is no 02:00 to 03:00 on 2", "when clocks go forward", "longer time"),
    ),
    (ROOM + "guest_pin = '471199'", ("guest_pin: needs allow_guests = true",)),
    (
        ROOM + "guest_pin = '471199'\nallow_guests = true",
        ("rooms.board", "without a Host PIN"),
    ),
]


@pytest.mark.parametrize(("text", "words"), WARNINGS)
def test_a_doubtful_setting_is_a_warning_with_what_to_write(
    text: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(text)
    said = checked("-c", tmp_path / "config.toml")
    assert said.exit_code == 0
    assert any(all(word in line for word in words) for line in said.stderr.splitlines()), said


# ---- files that others can read or change


SECRETS: list[tuple[str, str, str]] = [
    (ROOM + "pin = '4711'", "config.toml", ""),
    ("[auth]\nuser = 'a'\npassword_file = 'secret'", "secret", "auth"),
    ("[admin]\ntoken_file = 'secret'", "secret", "admin.token_file"),
    (
        "[privacy]\npersonal = 'hashed'\nkey_file = 'secret'",
        "secret",
        "privacy.key_file",
    ),
    (UPSTREAM + "user = 'a'\npassword_file = 'secret'", "secret", "targets.t.password_file"),
]


@pytest.mark.parametrize(("text", "file", "key"), SECRETS)
@pytest.mark.parametrize(
    ("mode", "others"), [(0o644, "every user"), (0o640, "its group"), (0o600, "")]
)
def test_a_secret_that_others_can_read_is_reported_with_the_command(
    tmp_path: Path, text: str, file: str, key: str, mode: int, others: str
) -> None:
    (tmp_path / "secret").write_text("a-long-secret-of-many-letters")
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[auth]\nuser = 'a'\npassword_file = \"a\\u0000\"", "its name holds a NUL character"),
        ("[tls]\ncertificate = \"a\\u0000\"\nkey = 'k'", "its name holds a NUL character"),
        ('[audit]\npath = "a\\u0000"', "holds a NUL character, which no path has"),
        ("[audit]\npath = 'a'\nspool = \"a\\u0000\"", "holds a NUL character, which no path has"),
    ],
)
def test_a_path_that_no_system_has_is_no_traceback(
    tmp_path: Path, text: str, expected: str
) -> None:
    (tmp_path / "config.toml").write_text(text)
    said = checked("-c", tmp_path / "config.toml")
    assert expected in said.stderr, said


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize(
    ("owner", "group", "mode", "others"),
    [
        (0, 4711, 0o640, ""),
        (0, 4711, 0o644, "every user"),
        (0, 0, 0o640, "its group"),
        (4711, 4711, 0o640, "its group"),
    ],
)
def test_root_may_share_a_key_with_a_group(
    tmp_path: Path, owner: int, group: int, mode: int, others: str
) -> None:
    certificates.write_pair(tmp_path)
    key = tmp_path / "server.key"
    text = "[tls]\ncertificate = 'server.pem'\nkey = 'server.key'\n"
    (tmp_path / "config.toml").write_text(text)
    os.chown(key, owner, group)
    key.chmod(mode)
    said = checked("-c", tmp_path / "config.toml").stderr
    assert (f"tls.key: {key} can be read by {others}" in said) is bool(others)
    assert others or "can be read" not in said


def test_a_key_that_others_can_read_is_reported(tmp_path: Path) -> None:
    certificates.write_pair(tmp_path)
    key = tmp_path / "server.key"
    text = "[tls]\ncertificate = 'server.pem'\nkey = 'server.key'\n"
    (tmp_path / "config.toml").write_text(text)
    key.chmod(0o644)
    assert (
        f"tls.key: {key} can be read by every user: chmod 600 {key}"
        in checked("-c", tmp_path / "config.toml").stderr
    )
    key.chmod(0o600)
    assert "can be read" not in checked("-c", tmp_path / "config.toml").stderr


@pytest.mark.parametrize("above", ["", "sep=,\n", "\n \n"])
def test_a_table_of_pins_that_others_can_read_is_reported(tmp_path: Path, above: str) -> None:
    table = tmp_path / "rooms.csv"
    table.write_text(f"{above}Aliases,Name,PIN\na@example.com,A,482913\n")
    table.chmod(0o644)
    (tmp_path / "config.toml").write_text("[plugins.rooms.settings]\ncsv = 'rooms.csv'\n")
    said = checked("-c", tmp_path / "config.toml").stderr
    assert "rooms.csv can be read by every user" in said


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


@pytest.mark.parametrize("content", ["one\ntwo\n", "one\r\ntwo", "\n one"])
def test_a_secret_of_several_lines_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret").write_text(content, newline="")
    (tmp_path / "config.toml").write_text("[auth]\nuser = 'a'\npassword_file = 'secret'\n")
    said = checked("-c", tmp_path / "config.toml")
    assert said.exit_code == 78
    assert "auth.password_file: the file has several lines" in said.stderr


@pytest.mark.parametrize(
    ("written", "said"),
    [("one\n", ""), ("one\ntwo", "SECRET_4711 has several lines"), ("\n", "SECRET_4711 is empty")],
)
def test_a_secret_of_a_variable_is_one_line_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, said: str
) -> None:
    """As a Secret of Kubernetes is written, with a line end after it."""
    monkeypatch.setenv("SECRET_4711", written)
    (tmp_path / "config.toml").write_text("[auth]\nuser = 'a'\npassword_env = 'SECRET_4711'\n")
    checked_now = checked("-c", tmp_path / "config.toml")
    assert checked_now.exit_code == (78 if said else 0)
    assert said in checked_now.stderr


def test_a_folder_as_the_audit_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "config.toml").write_text("[audit]\npath = 'log'\n")
    said = checked("-c", tmp_path / "config.toml").stderr
    assert f"audit.path: {tmp_path / 'log'} is a folder; name a file, as in log/audit.jsonl" in said


# ---- the command line


@pytest.mark.parametrize(("value", "coloured"), [("", True), ("1", False)])
def test_no_color_is_honoured(tmp_path: Path, value: str, *, coloured: bool) -> None:
    (tmp_path / "config.toml").write_text("[server]\nprot = 1\n")
    arguments = ["check", str(tmp_path / "config.toml")]
    said = CliRunner().invoke(main, arguments, color=True, env={"NO_COLOR": value})
    assert said.exit_code == 78
    assert ("\x1b" in said.stderr) is coloured


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_output_for_which_the_disk_has_no_space_is_no_traceback() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "pexpolicy", "config", "schema"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode
    assert "the output cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("http://::1:9107", "http://[::1]:9107"),
        ("::1", "http://[::1]"),
        ("localhost:9107", "http://localhost:9107"),
    ],
)
def test_the_url_that_was_meant_is_named(url: str, meant: str) -> None:
    said = CliRunner().invoke(main, ["status", "--url", url])
    assert said.exit_code == 2
    assert f"write {meant}\n" in said.stderr


def test_quotes_that_docker_keeps_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUOTED", '"a long password"')
    (tmp_path / "config.toml").write_text("[auth]\nuser = 'a'\npassword_env = 'QUOTED'\n")
    said = checked("-c", tmp_path / "config.toml").stderr
    assert "the password of a is in quotes, and they are part of it" in said
    assert "a long password" not in said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (" a long password", "has a blank at its start or end"),
        ("PASSWORD=a-long-one", "begins like a line of an env_file, NAME=: write the value alone"),
        ("a long password", ""),
    ],
)
def test_a_password_that_is_not_what_is_sent_is_reported(
    tmp_path: Path, written: str, said: str
) -> None:
    (tmp_path / "secret").write_text(f"{written}\n")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "config.toml").write_text("[auth]\nuser = 'a'\npassword_file = 'secret'\n")
    found = checked("-c", tmp_path / "config.toml").stderr
    assert said in found
    assert bool(said) is ("warning" in found)
    assert "long" not in found


@pytest.mark.parametrize(
    ("written", "refused"),
    [
        ("$scrypt$ln=15,r=8,p=1$7PbXGI3grsIPFFqy6uxoxw$8x7gRjdlrnCJZ2tfuviWK9Dtgn8nyWqhqz", True),
        ("pexip:$apr1$abcdefgh$0123456789abcdefghijkl", True),
        ("$2y$10$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234", True),
        ("$6$ and a long password of several words", False),
        ("$money$-is-no-hash-however-long-it-may-be", False),
    ],
)
def test_a_hash_in_place_of_a_password_is_reported(
    tmp_path: Path, written: str, *, refused: bool
) -> None:
    (tmp_path / "secret").write_text(f"{written}\n")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "config.toml").write_text("[auth]\nuser = 'a'\npassword_file = 'secret'\n")
    found = checked("-c", tmp_path / "config.toml")
    assert (found.exit_code == 78) is refused
    assert ("auth.password_file: holds a hash and no password" in found.stderr) is refused
    assert written not in found.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PEXPOLICY_PORT", "9000", "server.port: the environment variable PEXPOLICY_PORT is not"),
        ("PEXPOLICY_LOG_LEVEL", "debug", "PEXPOLICY_LOG_LEVEL is not read: write log.level here"),
        ("PEXPOLICY_CONFIG_FILE", "x", "PEXPOLICY_CONFIG_FILE is not read: write PEXPOLICY_CONFIG"),
        ("PEXPOLICY_PORT", "tcp://10.0.0.1:8000", ""),
        ("PEXPOLICY_SERVICE_PORT", "8000", ""),
        ("PEXPOLICY_PASSWORD", "x", ""),
    ],
)
def test_a_variable_that_looks_like_a_key_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """But none that Kubernetes sets for a Service called pexpolicy."""
    monkeypatch.setenv(name, value)
    (tmp_path / "config.toml").write_text("")
    found = checked("-c", tmp_path / "config.toml").stderr
    assert said in found
    assert bool(said) is ("warning" in found)


def test_two_configurations_are_not_one(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text("")
    said = checked("-c", tmp_path / "a.toml", tmp_path / "b.toml")
    assert said.exit_code == 2
    assert "b.toml are two configurations: check one after the other" in said.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["new.toml"], "new.toml would be a folder, and config.toml is written into it"),
    ],
)
def test_a_new_configuration_with_a_file_of_another_kind_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["init", *arguments, "--yes"])
    assert done.exit_code == 2
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--host", "0.0.0.0:8000"], "is an address without a port: write --port too"),
        (["serve", "--host", "http://0.0.0.0"], "is an address without a scheme or path"),
        (["explain", "Meet One"], "Meet One is not an alias: it contains a space"),
    ],
)
def test_a_wrong_argument_is_answered_with_a_right_one(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_reload_of_a_file_that_is_not_there_names_a_similar_one(tmp_path: Path) -> None:
    (tmp_path / "config.toml").touch()
    done = CliRunner().invoke(main, ["reload", "-c", str(tmp_path / "confg.toml")])
    assert done.exit_code == 1
    assert "there is no such file; did you mean 'config.toml'?; name another with" in done.stderr


@pytest.mark.parametrize(
    ("marks", "variables", "said"),
    [
        ([], {}, ""),
        (["mark"], {}, ", or mount it into this container"),
        ([], {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, ", or mount it into this container"),
    ],
)
def test_a_container_without_its_configuration_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    marks: list[str],
    variables: dict[str, str],
    said: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "mark").touch()
    monkeypatch.setattr(environment, "CONTAINER_MARKS", [tmp_path / name for name in marks])
    found = checked("-c", tmp_path / "none.toml").stderr
    assert f"--config or PEXPOLICY_CONFIG{said}\n" in found


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 2>&-"])
def test_a_closed_standard_error_ends_no_command(tmp_path: Path, closed: str) -> None:
    (tmp_path / "config.toml").write_text("[server]\nport = 0\n[audit]\npath = '-'\n")
    command = ["sh", "-c", f"exec {sys.executable} -m pexpolicy check {closed}"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0
    assert "valid, 1 warning" in done.stdout


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_has_a_short_option(option: str) -> None:
    assert CliRunner().invoke(main, [option]).stdout.endswith(f" {__version__}\n")


def test_check_takes_the_file_as_an_argument(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("[server]\nprot = 1\n")
    said = checked(tmp_path / "other.toml")
    assert said.exit_code == 78
    assert "server.prot" in said.stderr


@pytest.mark.parametrize("command", ["serve", "check", "plugins"])
@pytest.mark.parametrize("make", [Path.mkdir, Path.absolute])
def test_a_configuration_that_cannot_be_read_is_no_wrong_usage(
    tmp_path: Path, command: str, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "config.toml")
    said = CliRunner().invoke(main, [command, "--config", str(tmp_path / "config.toml")])
    assert said.exit_code == 78
    assert "cannot be read: " in said.stderr
    assert "Usage" not in said.stderr


def test_a_configuration_that_this_user_may_not_read_is_no_wrong_usage(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("")
    path.chmod(0o000)
    tmp_path.chmod(0o755)
    # Root reads any file, so that a child of it becomes another user first.
    become = "os.setgroups([]); os.setgid(65534); os.setuid(65534);" if os.geteuid() == 0 else ""
    code = (
        f"import os, sys; from pexpolicy.cli.main import main; os.chdir({str(tmp_path)!r});"
        "import pexpolicy.cli.serve, pexpolicy.config.loader;"
        f"{become} sys.argv = ['pexpolicy', 'serve', '--config', 'config.toml']; main()"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert said.returncode == 78, said.stderr
    assert "cannot be read: Permission denied; the user nobody may not read it: ch" in said.stderr


DENIED = {
    "password": ("[auth]\nuser = 'a'\npassword_file = '{}'\n", "auth.password_file"),
    "rooms.csv": ("[plugins.rooms.settings]\ncsv = '{}'\n", "rooms.settings.csv"),
    "rules.toml": ("[plugins.rules.settings]\nfiles = ['{}']\n", "rules.settings.files"),
    "server.pem": ("[tls]\nkey = 'server.key'\ncertificate = '{}'\n", "tls.certificate"),
    "ca.pem": (UPSTREAM.replace("'t'", "t") + "ca_file = '{}'\n", "targets.t.ca_file"),
}
"""By the name of a file: a table that names it, and its key."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_who_may_not_read_a_file_is_told_with_the_command(tmp_path: Path) -> None:
    certificates.write_pair(tmp_path)
    tmp_path.chmod(0o755)
    folder = tmp_path / "closed"
    folder.mkdir()
    for name in DENIED:
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o600)
    tables = "".join(table.format(name) for name, (table, _) in DENIED.items())
    (tmp_path / "config.toml").write_text(tables)
    (tmp_path / "log").mkdir()
    (tmp_path / "log.toml").write_text("[audit]\npath = 'log/a.jsonl'\n")
    folder.chmod(0o700)
    (tmp_path / "closed.toml").write_text("[audit]\npath = 'closed/in/a.jsonl'\n")
    said = checked_by_nobody(tmp_path, "config.toml", "log.toml", "closed.toml")
    expected = {
        key: f"Permission denied; the user nobody may not read it: chown nobody {name}"
        for name, (_, key) in DENIED.items()
    }
    for key, text in expected.items():
        assert any(key in line and text in line for line in said), (key, said)
    made = "the user nobody may not make a file in log: chown nobody log; a server of this user"
    entered = f"the user nobody may not enter {folder}: chmod a+x {folder}; a server of this user"
    for text in (made, entered):
        assert any(text in line for line in said), (text, said[-12:])
    assert not [*folder.iterdir(), *(tmp_path / "log").iterdir()]


def checked_by_nobody(folder: Path, *names: str) -> list[str]:
    """Return the lines that check prints to another user about each of some configurations."""
    # Root checks them first: this user may not read the modules that are still to be imported.
    code = (
        f"import os; from click.testing import CliRunner; os.chdir({str(folder)!r});"
        "from pexpolicy.cli.main import main; names = {names!r};"
        "say = lambda: [CliRunner().invoke(main, ['check', one]).output for one in names];"
        "say(); os.setgroups([]); os.setgid(65534); os.setuid(65534); print(*say())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code.replace("{names!r}", repr(names))],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        *(("start", "serve"), ("run", "serve"), ("validate", "check"), ("chekc", "check")),
    ],
)
def test_a_command_that_does_not_exist_is_answered_with_one_that_does(
    command: str, meant: str
) -> None:
    said = CliRunner().invoke(main, [command])
    assert said.exit_code == 2
    assert f"No such command '{command}'. Did you mean '{meant}'?" in said.stderr


def test_an_address_of_another_machine_is_reported_as_one(tmp_path: Path) -> None:
    text = f"[server]\nhost = '192.0.2.7'\nallow_anonymous = true\n{AUDIT}"
    (tmp_path / "config.toml").write_text(text)
    arguments = ["serve", "--config", str(tmp_path / "config.toml"), "--admin-port", "0"]
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 1
    assert "cannot listen on 192.0.2.7:8000: it is not an address of this machine" in said.stderr


@pytest.mark.parametrize("written", ["S3cret!pass", "$PEXPOLICY_PASSWORD", "correct horse"])
def test_a_secret_in_place_of_the_name_of_its_variable_is_not_repeated(
    tmp_path: Path, written: str
) -> None:
    text = f"[auth]\nuser = 'pexip'\npassword_env = '{written}'\n"
    (tmp_path / "config.toml").write_text(text)
    said = checked("-c", tmp_path / "config.toml")
    assert said.exit_code == 78
    assert "write the name of one, such as PEXPOLICY_PASSWORD, without $" in said.stderr
    assert written not in said.stderr


@pytest.mark.parametrize("command", ["verify", "stats", "grep", "show 01a21043", "tail"])
def test_a_damaged_archive_of_the_audit_is_no_traceback(tmp_path: Path, command: str) -> None:
    (tmp_path / "audit.jsonl.gz").write_bytes(gzip.compress(b"x" * 9000)[:-20])
    (tmp_path / "text.gz").write_text("no archive")
    for name in ("audit.jsonl.gz", "text.gz"):
        arguments = ["audit", *command.split(), "--file", str(tmp_path / name)]
        said = CliRunner().invoke(main, arguments)
        assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
        assert "damaged" in said.output
        assert said.exit_code == (command in ("verify", "grep", "show 01a21043"))
