"""Short and safe forms of values and names, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping

MAX_BITS = 200
MAX_NAME = 80
MAX_GUESSED = 64
"""Longer words are not compared: it would take long, and they are not typing errors."""
_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "address": ("remote_address",),
    "alias": ("aliases", "local_alias"),
    "allow": ("allowed", "networks"),
    "allow_guest": ("allow_guests",),
    "base_dn": ("base",),
    "benutzer": ("username", "user"),
    "benutzername": ("username", "user"),
    "bezeichnung": ("name",),
    "bind_dn": ("user",),
    "binddn": ("user",),
    "bandwidth": ("max_callrate_in", "max_callrate_out"),
    "bind": ("host",),
    "ca": ("client_ca", "ca_file"),
    "ca_cert": ("client_ca", "ca_file"),
    "cafile": ("client_ca", "ca_file"),
    "call_tag": (),
    "called": ("local_alias",),
    "callee": ("local_alias",),
    "caller": ("remote_alias",),
    "cert": ("certificate", "client_cert"),
    "cert_file": ("certificate", "client_cert"),
    "certfile": ("certificate", "client_cert"),
    "cidr": ("subnet", "in_subnet"),
    "code_pin": ("pin",),
    "conference_name": ("name",),
    "contain": ("contains",),
    "csv_file": ("csv",),
    "destination": ("local_alias",),
    "dialed": ("local_alias",),
    "directory": ("plugin_dirs", "path"),
    "domains": ("allowed",),
    "ends_with": ("suffix",),
    "end_date": ("valid_until",),
    "endswith": ("suffix",),
    "eq": ("equals",),
    "file": ("csv", "files", "path"),
    "expires": ("valid_until",),
    "expiry": ("valid_until",),
    "filename": ("csv", "files", "path"),
    "from": ("remote_alias", "between"),
    "gt": ("greater",),
    "guest_password": ("guest_pin",),
    "guests_allowed": ("allow_guests",),
    "emplacement": ("location",),
    "host": ("url",),
    "host_name": ("host",),
    "host_password": ("pin",),
    "host_pin": ("pin",),
    "hostpin": ("pin",),
    "in": ("one_of",),
    "include": ("files",),
    "ip": ("subnet", "host", "remote_address"),
    "ip_address": ("remote_address",),
    "kennwort": ("password", "pin"),
    "key_file": ("key", "client_key"),
    "keyfile": ("key", "client_key"),
    "layout": ("view",),
    "listen": ("host",),
    "log": ("audit",),
    "logging": ("log", "audit"),
    "logins": ("users",),
    "lt": ("less",),
    "match": ("regex",),
    "matches": ("regex",),
    "ivr_theme": ("ivr_theme_name",),
    "max_backups": ("keep",),
    "max_participants": ("participant_limit",),
    "media_encryption": ("crypto_mode",),
    "mot_de_passe": ("password", "pin"),
    "netz": ("subnet",),
    "netzwerk": ("subnet",),
    "network": ("subnet", "networks", "in_subnet"),
    "nom": ("name",),
    "overflow": ("overflow_locations",),
    "participants": ("participant_limit", "automatic_participants"),
    "passcode": ("pin",),
    "password": ("pin",),
    "passwort": ("password", "pin"),
    "pattern": ("regex", "glob"),
    "private_key": ("key", "client_key"),
    "proxies": ("trusted_proxies",),
    "pin_code": ("pin",),
    "pins": ("pin",),
    "postgres": ("sql",),
    "postgresql": ("sql",),
    "raum": ("rooms", "name"),
    "rest": ("http",),
    "reception": ("two_stage_dialing",),
    "retention": ("keep",),
    "room": ("rooms", "name"),
    "room_name": ("name",),
    "rotate": ("rotate_hours", "rotate_mb"),
    "rotation": ("rotate_hours", "rotate_mb"),
    "service_theme": ("ivr_theme_name",),
    "source": ("remote_alias",),
    "source_ip": ("remote_address",),
    "salle": ("rooms", "name"),
    "server": ("url", "host"),
    "sous_réseau": ("subnet",),
    "sqlite": ("sql",),
    "ssl": ("tls",),
    "standort": ("location",),
    "subnetz": ("subnet",),
    "start_date": ("valid_from",),
    "starts_with": ("prefix",),
    "startswith": ("prefix",),
    "tag": ("service_tag",),
    "theme": ("ivr_theme_name",),
    "theme_name": ("ivr_theme_name",),
    "timezone": ("zone",),
    "token": ("token_env",),
    "to": ("local_alias", "between"),
    "tz": ("zone",),
    "type": ("service_type",),
    "username": ("user",),
    "utilisateur": ("username", "user"),
    "users": ("credentials",),
    "valid_to": ("valid_until",),
    "virtual_auditorium": ("lecture",),
    "virtual_meeting_room": ("conference",),
    "virtual_reception": ("two_stage_dialing",),
    "vmr": ("conference",),
}
"""By a wrong name: the names that it may mean. Letters alone point the wrong way: ``host_pin``
looks like ``guest_pin``, and means ``pin``.
"""
_FIRST = "it is a top-level key: write it before the first [table]"
_HASHED = "it is never in this file: write password_hash, password_env or password_file"
_REMARKS: Mapping[tuple[str, ...], str] = {
    ("plugin_dirs",): _FIRST,
    ("enabled",): "leave out the whole table, or write # before its lines, to deactivate it",
    ("password",): "it is never in this file: write password_env or password_file",
    ("auth", "password"): _HASHED,
    ("credentials", "password"): _HASHED,
    ("audit", "chain"): "lines are always chained by their hashes; leave the key out",
    ("audit", "hash_chain"): "lines are always chained by their hashes; leave the key out",
    ("audit", "rotate"): "write rotate_hours = 24 or rotate_mb = 100",
    ("audit", "rotate_days"): "write hours, as in rotate_hours = 24",
    ("log", "file"): "lines go to standard error, which systemd and Docker keep; leave the key out",
    ("log", "path"): "lines go to standard error, which systemd and Docker keep; leave the key out",
    ("audit", "max_size"): "write a number of megabytes, as in rotate_mb = 10",
    ("audit", "max_bytes"): "write a number of megabytes, as in rotate_mb = 10",
    ("audit", "rotate_size"): "write a number of megabytes, as in rotate_mb = 10",
}
"""By the end of a key: what to write instead. The longest end decides."""
_TOP_LEVEL: Mapping[str, str] = {
    "metrics": "metrics are on by default, at the port of [admin]",
    "prometheus": "metrics are on by default, at the port of [admin]",
    "logging": "decisions are logged by [audit], all else by [log]",
    "rooms": "rooms belong below [plugins.rooms.settings.rooms.ALIAS]",
    "rules": "rules belong below [[plugins.rules.settings.rules]]",
    "domains": "domains belong in [plugins.domains.settings], as allowed = [...]",
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
    if (meant := synonym(name, known)) is not None:
        return f"; did you mean {meant!r}?" if meant else ""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


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
