"""Short and safe forms of values and names, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping

MAX_BITS = 200
MAX_NAME = 80
MAX_GUESSED = 64
"""Longer words are not compared: it would take long, and they are not typing errors."""
_MEANINGS: Mapping[str, str] = {
    "": "call_tag mssql mysql oracle",
    "access": "firewall",
    "admin": "administrator administrators admins monitoring status",
    "alias aliases": "e_mail email mail number nummer phone rufnummer telefon",
    "aliases local_alias": "alias",
    "all": "and",
    "continue skip": "accept ignore pass permit",
    "reject dropped": "block decline deny drop fail refuse",
    "audio": "audio_only",
    "when": "condition conditions criteria if",
    "equals": "eq is",
    "allow_guests": (
        "allow_guest gjester gjester_tillatt guests guests_allowed gäste gäste_erlaubt "
        "gäste_zulassen invités invités_autorisés tillat_gjester"
    ),
    "allowed networks continue skip": "allow",
    "allowed": "domains",
    "any": "or",
    "audit": "log",
    "auth": "authentication basic_auth credentials",
    "base": "base_dn",
    "budget pause": "timeout",
    "certificate client_cert": "cert cert_file certfile",
    "client_ca ca_file": "ca ca_cert cafile",
    "conference": "virtual_meeting_room vmr",
    "connections": "max_connections",
    "contains": "contain",
    "credentials viewer": "users",
    "crypto_mode": "media_encryption",
    "csv": "csv_file",
    "csv file path": "excel spreadsheet workbook xls xlsx",
    "csv files path": "file filename",
    "default": "default_location",
    "description": (
        "bemerkung beschreibung beskrivelse comment comments kommentar notes remark remarks"
    ),
    "directory_information": "phone_book phonebook",
    "endpoints": "events",
    "exists": "empty is_set",
    "failures": "max_failures threshold",
    "file": "csv json toml yaml",
    "files": "include",
    "greater not_less": "gt min",
    "guest_pin": (
        "code_invite code_invité gaeste_pin gjeste_pin gjestepin guest_password gäste_pin pin_guest"
    ),
    "host": "bind domain host_name interface listen",
    "http": "rest",
    "ivr_theme_name": "ivr_theme service_theme theme_name",
    "ivr_theme_name themes": "theme",
    "keep": "max_backups retention",
    "key client_key": "key_file keyfile private_key",
    "keywords": "abteilung avdeling department",
    "ldap": "active_directory activedirectory ad openldap",
    "lecture": "virtual_auditorium",
    "less not_greater": "lt max",
    "local_alias": "called callee destination dialed",
    "local_alias between": "to",
    "location": "emplacement lokasjon ort plassering site standort sted ubicación",
    "locations media_location": "location",
    "log audit": "logging",
    "max_callrate_in max_callrate_out": "bandwidth",
    "media_location": "media",
    "name": "bezeichnung conference_name namn navn nom nome raumname romnavn room_name",
    "networks": "allowed_ips allowlist ips nodes",
    "networks access": "whitelist",
    "none": "not",
    "one_of": "in in_list is_in",
    "five_mains_seven_pips": "5+7 5:7",
    "four_mains_zero_pips": "4+0 4:0 2x2",
    "nine_mains_zero_pips": "9+0 9:0 3x3",
    "one_main_seven_pips": "1+7 1:7",
    "one_main_thirtythree_pips": "1+33 1:33",
    "one_main_twentyone_pips": "1+21 1:21",
    "one_main_zero_pips": "1+0 1:0 1x1",
    "operator": "operators",
    "otherwise default": "default else fallback",
    "overflow_locations": "overflow",
    "participant_avatar": "avatar avatars",
    "participant_limit": "capacity kapazität max_participants max_users teilnehmer",
    "participant_limit automatic_participants participant_properties": "participants",
    "participant_properties": "participant",
    "password pin": "kennwort mot_de_passe passwort",
    "pause": "cooldown reset_timeout",
    "pin": (
        "code code_pin host_code host_password host_pin hostpin passcode password pin_code "
        "pin_host pinkode pins"
    ),
    "plugin_dirs path directory_information": "directory",
    "plugins": "modules plugin",
    "prefix": "begins_with beginswith starts_with startswith",
    "priority": "order prio rank weight",
    "regex when": "match matches",
    "glob regex": "like wildcard",
    "regex glob": "pattern",
    "registration_alias": "registration registrations",
    "remote_address host url": "address",
    "remote_address": "ip_address source_ip",
    "remote_alias": "caller",
    "remote_alias between": "from",
    "remote_alias sources": "source",
    "rooms name": "raum room salle",
    "rotate_hours rotate_mb": "rotate rotation",
    "server": "http listener web",
    "service_configuration": "script service service_config services",
    "service_tag": "tag",
    "service_type": "diensttyp tjenestetype typ type",
    "sixteen_mains_zero_pips": "16+0 16:0 4x4",
    "sources": "databases ldap",
    "sql": "postgres postgresql sqlite",
    "subnet in_subnet": "cidr",
    "subnet host remote_address": "ip",
    "subnet": "ip_range nettverk netz netzwerk range réseau sous_réseau subnett subnetz",
    "subnet networks in_subnet": "network",
    "suffix": "ends_with endswith",
    "time": "date day hour hours weekday weekdays",
    "tls": "certificates https ssl",
    "token_env": "token",
    "trusted_proxies": "proxies",
    "twentyfive_mains_zero_pips": "25+0 25:0 5x5",
    "two_mains_twentyone_pips": "2+21 2:21",
    "two_stage_dialing": "reception virtual_reception",
    "url sources": "database",
    "url": "db dbname host port",
    "url host": "server",
    "user": "bind_dn binddn login name username",
    "username user": "benutzer benutzername utilisateur",
    "users": "logins",
    "valid_from": "begin gyldig_fra gültig_ab gültig_von start_date starts valable_du",
    "valid_until": (
        "ablauf end_date ends expires expiry gyldig_til gültig_bis until valable_au valid_to"
    ),
    "vendor": "agent user_agent useragent",
    "verify": "insecure ssl_verify verify_tls",
    "view": "layout",
    "viewer": "readers viewers",
    "workers": "processes threads",
    "zone": "timezone tz",
}
"""By the names that may be meant, the first that is known: wrong names for them.

Letters alone point the wrong way: ``host_pin`` looks like ``guest_pin``, and means ``pin``. Names
in other languages are those of spreadsheets, ``1+7`` and ``1:7`` layouts in words of Infinity.
"""
_SYNONYMS = {
    wrong: meant.split() for meant, all_wrong in _MEANINGS.items() for wrong in all_wrong.split()
}
_FIRST = "it is a top-level key: write it before the first [table]"
_HASHED = "it is never in this file: write password_hash, password_env or password_file"
_WHOLE = "leave out the whole table, or write # before its lines, to deactivate it"
_TLS = "write a table [tls] with certificate and key"
_RATE = "wrong passwords are slowed down anyway; [limits] limits connections"
_NEVER = "Infinity is never asked: [infinity] lists names of its objects; leave the key out"
_DETECTED = "it is detected; leave the key out"
_STDERR = "lines go to standard error, which systemd and Docker keep; leave the key out"
_MEGABYTES = "write a number of megabytes, as in rotate_mb = 10"
_CHAINED = "lines are always chained by their hashes; leave the key out"
_LOGIN, _TOKEN = ("user", "password"), ("user", "password", "token")
_DENIED = ("deny", "denied", "block", "blocked", "blacklist", "blocklist")
_REMARKS: Mapping[tuple[str, ...], str] = {
    ("plugin_dirs",): _FIRST,
    **dict.fromkeys((("enabled",), ("disabled",)), _WHOLE),
    **{("server", name): _TLS for name in ("tls", "ssl", "ssl_cert", "ssl_key", "certificate")},
    **{("server", name): 'write level = "debug" below [log]' for name in ("log_level", "debug")},
    **{("server", name): "write [auth] with user and password_env" for name in _LOGIN},
    ("server", "url"): "write host and port, and base_path for a path in front",
    ("tls", "chain"): "append the intermediate certificates to the file of tls.certificate",
    ("tls", "port"): "write server.port, which speaks TLS then",
    ("tls", "ciphers"): "only min_version can be chosen; leave the key out",
    ("auth", "type"): "it is always Basic; leave the key out",
    ("auth", "token"): "nodes send a user and a password: write user and password_env",
    **{("access", name): "write those who may connect in networks" for name in _DENIED},
    **{(name,): "only what is allowed is listed; a rule can reject the rest" for name in _DENIED},
    **{(t, n): _RATE for t in ("access", "limits", "server") for n in ("rate", "rate_limit")},
    **{(name, "format"): "lines are JSON; leave the key out" for name in ("audit", "log")},
    ("audit", "compress"): "compress rotated files yourself: all commands read .gz too",
    ("audit", "sign"): "name the key that signs, in sign_key_file",
    ("audit", "syslog"): "leave path out, and write: pexpolicy serve | logger -t pexpolicy",
    **{("privacy", n): 'write personal = "hashed" or "dropped"' for n in ("hash", "anonymize")},
    **{("infinity", n): _NEVER for n in ("host", "url", "address", "version", *_LOGIN)},
    **{("admin", n): "operators send a token: write token_env or token_file" for n in _TOKEN},
    ("console", "password"): "each user has a table [[console.users]]",
    ("console", "ldap"): "users log in by [[console.users]], [console.oidc] or [console.proxy]",
    **{(name,): _DETECTED for name in ("separator", "delimiter", "encoding")},
    ("filter",): "write it in query of the plugin, such as (mail={alias}) name=cn",
    ("server", "max_connections"): "write connections below [limits]",
    ("when", "domain"): "write local_alias.host or remote_alias.host",
    ("sheet",): "save the sheet as a CSV file of its own",
    ("then", "redirect"): 'write then = { action = "redirect", new_alias = "sip:..." }',
    ("then", "reject"): 'write then = "reject"',
    ("then", "message"): "write reason, which is logged, or reject_reason for participants",
    **{("when", n): "write parameters alone, as in local_alias" for n in ("request", "call_info")},
    ("when", "user"): "write local_alias.user or remote_alias.user",
    ("password",): "it is never in this file: write password_env or password_file",
    ("auth", "password"): _HASHED,
    ("credentials", "password"): _HASHED,
    **{("audit", name): _CHAINED for name in ("chain", "hash_chain")},
    ("audit", "rotate"): "write rotate_hours = 24 or rotate_mb = 100",
    ("audit", "rotate_days"): "write hours, as in rotate_hours = 24",
    **{("log", name): _STDERR for name in ("file", "path")},
    **{("audit", name): _MEGABYTES for name in ("max_size", "max_bytes", "rotate_size")},
}
"""By the end of a key: what to write instead. The longest end decides."""
_TOP_LEVEL: Mapping[str, str] = {
    "metrics": "metrics are on by default, at the port of [admin]",
    "prometheus": "metrics are on by default, at the port of [admin]",
    "logging": "decisions are logged by [audit], all else by [log]",
    "rooms": "rooms belong below [plugins.rooms.settings.rooms.ALIAS]",
    "rules": "rules belong below [[plugins.rules.settings.rules]]",
    "domains": "domains belong in [plugins.domains.settings], as allowed = [...]",
    "locations": "locations belong in [plugins.locations.settings]",
    "users": "nodes log in by [auth], users of the console by [[console.users]]",
    "policy": "what is sent without a decision is default below [endpoints.NAME]",
    "include": "rooms, rules and subnets may be in files, which settings of their plugins name",
    "version": "leave the key out",
}


def brief(value: object, limit: int = 60) -> str:
    """Return any value on one short line, without calling its methods."""
    kind = type(value)
    if kind is str or kind is bytes:
        text: str | bytes = value  # type: ignore[assignment]
        if len(text) > limit:
            return f"{text[:limit]!r}… ({len(text)} long)"
        return repr(text)
    if kind is int and value.bit_length() > MAX_BITS:  # type: ignore[attr-defined]
        return f"a number of more than {MAX_BITS} bits"
    if value is None or kind in (bool, int, float):
        return repr(value)[:limit]
    return article(type.__dict__["__name__"].__get__(kind)[:limit])


def article(noun: str) -> str:
    """Return a noun with its indefinite article."""
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def brief_name(name: str) -> str:
    """Return the name of a field, cut to ``MAX_NAME`` characters."""
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return ``; did you mean 'x'?`` where a known name is meant or similar, else nothing.

    Known synonyms come first, then similar letters.
    """
    if len(name) > MAX_GUESSED:
        return ""
    if name.lower() in known:
        return f"; did you mean {name.lower()!r}?"
    if (meant := synonym(name, known)) is not None:
        return f"; did you mean {meant!r}?" if meant else ""
    return similar(name, known)


def similar(name: str, known: Collection[str]) -> str:
    """Return ``; did you mean 'x'?`` where a known name has similar letters, else nothing."""
    if len(name) > MAX_GUESSED:
        return ""
    folded = {one.casefold(): one for one in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


def is_without_colour() -> bool:
    """Return whether the environment asks for text without colours (https://no-color.org)."""
    return bool(os.environ.get("NO_COLOR"))


def is_utf8(text: str) -> bool:
    """Return whether a text can be written in UTF-8: other bytes of arguments are surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def printable(text: object) -> str:
    """Return text without control characters, which would command the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def synonym(name: str, known: Collection[str]) -> str | None:
    """Return the known name that ``name`` is a synonym of.

    It is empty where none of them is meant, so that no similar name is suggested, and ``None`` for
    a name without synonyms.
    """
    meant = _SYNONYMS.get(name.lower().replace("-", "_"))
    if meant is None:
        return None
    return next((candidate for candidate in meant if candidate in known), "")


def misplaced(name: str) -> str:
    """Return what to write for a top-level key in a table of a plugin, or nothing."""
    return _FIRST if name == "plugin_dirs" else ""


def remark(key: tuple[str | int, ...], *, whole: bool = False) -> str:
    """Return what to write instead of a key that does not exist, or nothing.

    ``whole`` is true for a key that begins at the top of the configuration.
    """
    names = tuple(part for part in key if isinstance(part, str))
    if whole and len(names) == 1 and names[0] in _TOP_LEVEL:
        return _TOP_LEVEL[names[0]]
    return _REMARKS.get(names[-2:]) or _REMARKS.get(names[-1:], "")
