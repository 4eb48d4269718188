"""Names that people write for keys and fields that are called otherwise.

Letters alone point the wrong way: ``host_pin`` looks like ``guest_pin``, and means ``pin``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "allow": ("allowed", "networks"),
    "allow_guest": ("allow_guests",),
    "bandwidth": ("max_callrate_in", "max_callrate_out"),
    "bind": ("host",),
    "ca": ("client_ca", "ca_file"),
    "ca_cert": ("client_ca", "ca_file"),
    "cafile": ("client_ca", "ca_file"),
    "cert": ("certificate", "client_cert"),
    "cert_file": ("certificate", "client_cert"),
    "certfile": ("certificate", "client_cert"),
    "cidr": ("subnet", "in_subnet"),
    "conference_name": ("name",),
    "contain": ("contains",),
    "csv_file": ("csv",),
    "directory": ("plugin_dirs", "path"),
    "domains": ("allowed",),
    "ends_with": ("suffix",),
    "endswith": ("suffix",),
    "eq": ("equals",),
    "file": ("csv", "files", "path"),
    "filename": ("csv", "files", "path"),
    "gt": ("greater",),
    "guest_password": ("guest_pin",),
    "guests_allowed": ("allow_guests",),
    "host_name": ("host",),
    "host_password": ("pin",),
    "host_pin": ("pin",),
    "hostpin": ("pin",),
    "in": ("one_of",),
    "include": ("files",),
    "ip": ("subnet", "host"),
    "key_file": ("key", "client_key"),
    "keyfile": ("key", "client_key"),
    "layout": ("view",),
    "listen": ("host",),
    "log": ("audit",),
    "logging": ("audit",),
    "lt": ("less",),
    "match": ("regex",),
    "matches": ("regex",),
    "max_backups": ("keep",),
    "max_participants": ("participant_limit",),
    "network": ("subnet", "networks", "in_subnet"),
    "overflow": ("overflow_locations",),
    "participants": ("participant_limit", "automatic_participants"),
    "passcode": ("pin",),
    "password": ("pin",),
    "pattern": ("regex", "glob"),
    "private_key": ("key", "client_key"),
    "proxies": ("trusted_proxies",),
    "retention": ("keep",),
    "rotate": ("rotate_hours", "rotate_mb"),
    "rotation": ("rotate_hours", "rotate_mb"),
    "ssl": ("tls",),
    "starts_with": ("prefix",),
    "startswith": ("prefix",),
    "tag": ("service_tag",),
    "theme": ("ivr_theme_name",),
    "theme_name": ("ivr_theme_name",),
    "timezone": ("zone",),
    "tz": ("zone",),
    "type": ("service_type",),
    "username": ("user",),
}
"""By the name that is written: what it may mean, of which a table has one."""
_FIRST = "it is a top-level key: write it before the first [table]"
_HASHED = "it is never in this file: write password_hash, password_env or password_file"
_REMARKS: Mapping[tuple[str, ...], str] = {
    ("plugin_dirs",): _FIRST,
    ("password",): "it is never in this file: write password_env or password_file",
    ("auth", "password"): _HASHED,
    ("credentials", "password"): _HASHED,
    ("audit", "chain"): "lines are always chained by their hashes; leave the key out",
    ("audit", "hash_chain"): "lines are always chained by their hashes; leave the key out",
    ("audit", "rotate"): "write rotate_hours = 24 or rotate_mb = 100",
    ("audit", "rotate_days"): "write hours, as in rotate_hours = 24",
    ("audit", "max_size"): "write a number of megabytes, as in rotate_mb = 10",
    ("audit", "max_bytes"): "write a number of megabytes, as in rotate_mb = 10",
    ("audit", "rotate_size"): "write a number of megabytes, as in rotate_mb = 10",
}
"""By the end of a key: what to write. The longest end decides."""
_TOP_LEVEL: Mapping[str, str] = {
    "metrics": "metrics are on by default, at the port of [admin]",
    "prometheus": "metrics are on by default, at the port of [admin]",
    "rooms": "rooms belong below [plugins.rooms.settings.rooms.ALIAS]",
    "rules": "rules belong below [[plugins.rules.settings.rules]]",
    "domains": "domains belong in [plugins.domains.settings], as allowed = [...]",
}


def synonym(name: str, known: Collection[str]) -> str | None:
    """Return the one of the known names that ``name`` is written for.

    It is empty where none of them is meant, so that no name of like letters is guessed, and
    ``None`` for a name without synonyms.
    """
    meant = _SYNONYMS.get(name.lower().replace("-", "_"))
    if meant is None:
        return None
    return next((candidate for candidate in meant if candidate in known), "")


def misplaced(name: str) -> str:
    """Return what to write for a top-level key that is in a table of a plugin's own, or nothing."""
    return _FIRST if name == "plugin_dirs" else ""


def remark(key: tuple[str | int, ...], *, whole: bool = False) -> str:
    """Return what to write for a key that does not exist, where that is known; else nothing.

    ``whole`` says that the key begins at the top of the configuration.
    """
    names = tuple(part for part in key if isinstance(part, str))
    if whole and len(names) == 1 and names[0] in _TOP_LEVEL:
        return _TOP_LEVEL[names[0]]
    return _REMARKS.get(names[-2:]) or _REMARKS.get(names[-1:], "")
