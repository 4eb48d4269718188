"""Generated local policy scripts and their inputs: the forms that public scripts use."""

import json
import random
from collections.abc import Sequence
from typing import Any

from pexpolicy_local_policy.variables import Kind
from tests.support.plain_jinja import LINK_TARGETS, proofpoint_link, safe_link

KINDS: Sequence[Kind] = ("service", "participant", "media_location")
ALIASES = (
    *("meet.alice@example.com", "sip:team-7@example.com", "+47 (555) 01-23", "9123", ""),
    *('quote"d', "back\\slash", "Zoë <b>x</b>", "日本 🙂", "tab\tand\nline", "{{ 1 }}", "a" * 90),
    *map(safe_link, LINK_TARGETS),
    *map(proofpoint_link, LINK_TARGETS),
    *("ZMlnZBLXTEeZPqO3Su0KGw==", "a%20b%2Fc%C3%B8"),
)
ADDRESSES = ("10.44.0.7", "10.201.4.9", "192.0.2.1", "2001:db8::7", "2001:658:22a:cafe::ffff", "")
NETWORKS = ("10.44.0.0/16", "10.201.5.0/23", "192.0.2.1", "2001:db8::/32", "2001::/16", "0.0.0.0/0")
ZONES = ("", '"Europe/Oslo"', '"Asia/Kolkata"', '"America/New_York"', '"UTC"')
PATTERNS = (
    r"^(sip:)?(.+)@(.+)$",
    r"[0-9]+",
    r"(\d)(\d)",
    r"^x?",
    r"^meet\.(\w+)",
    "[^a-z]",
    "(e)|(i)",
)
REPLACEMENTS = ("", "-", "x", r"<\g<0>>", "+47")
KEYS = (
    *("local_alias", "remote_alias", "location", "protocol", "call_direction", "vendor"),
    *("remote_address", "remote_display_name", "previous_service_name", "absent"),
)
TEXT_FILTERS = (
    *("capitalize", "lower", "upper", "trim", "striptags", "first", "last", 'default("none")'),
    *(
        'default("", true)',
        "truncate(12)",
        'replace("e", "3")',
        'format("a")',
        "length",
        'join("-")',
    ),
    *("pex_base64", "pex_clean_phone_number", "pex_hash", "pex_md5", "pex_reverse", "pex_strlen"),
    *("pex_url_encode", "pex_url_decode", "pex_to_json"),
)
FITTING = (
    '"+47 (555) 01-23 x"|pex_clean_phone_number',
    "call_info.remote_alias|pex_clean_phone_number",
    '"ZMlnZBLXTEeZPqO3Su0KGw=="|pex_to_uuid',
    '"abcdefghijklmnopqrstuA=="|pex_to_uuid',
    "call_info.remote_alias|pex_to_uuid",
)
"""Filters with values that they are made for."""
LINK_FILTERS = ("pex_safelinks_decode", "pex_urldefense_decode")
NUMBER_FILTERS = ("abs", "abs", "int", "float", "round", "round(1)", 'round(1, "floor")', "int(7)")
WORDS = ("meet", "example", "@", "sip:", "9", "Oslo", "")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
METHODS = ("startswith", "endswith")


def quoted(text: str) -> str:
    """Return a string of the language."""
    return json.dumps(text, ensure_ascii=False)


def updated(base: str, changes: str) -> str:
    """Return what prints an object with changes."""
    return f"{{{{ {base}|pex_update({changes})|pex_to_json }}}}"


class ScriptWriter:
    """Writes scripts; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._one = self._random.choice
        self._sets: list[str] = []

    def script(self, kind: Kind) -> str:
        """Return a script: assignments and debug calls, then branches that print JSON."""
        self._sets = []
        head = "".join(self._statement() for _ in range(self._random.randrange(4)))
        branches = [
            self._tag("if", self._truth(2)) + self._document(kind),
            *(
                self._tag("elif", self._truth(2)) + self._document(kind)
                for _ in range(self._random.randrange(3))
            ),
        ]
        if self._random.random() < 0.9:
            branches.append(self._tag("else", "") + self._document(kind))
        return f"{head}{''.join(branches)}{self._tag('endif', '')}\n"

    def variables(self, kind: Kind) -> dict[str, Any]:
        """Return the variables of a script."""
        call = {
            "local_alias": self._one(ALIASES),
            "remote_alias": self._one(ALIASES),
            "remote_display_name": self._one(ALIASES),
            "location": self._one(("Oslo", "São Paulo")),
            "protocol": self._one(("sip", "webrtc", "mssip")),
            "call_direction": self._one(("dial_in", "dial_out")),
            "vendor": self._one(("Cisco/CE", "Polycom")),
            "registered": self._one((True, False)),
            "bandwidth": self._one((0, 512, 4096)),
            "remote_port": 5060,
            "remote_address": self._one(ADDRESSES),
            "ms_subnet": self._one(([], ["10.44.0.0"], ["10.1.0.0", "10.2.0.0"])),
        }
        room = {
            "name": self._one(ALIASES),
            "service_type": "conference",
            "service_tag": "tag",
            "pin": "123456",
            "allow_guests": self._one((True, False)),
            "automatic_participants": [{"remote_alias": "sip:recorder@example.com"}],
        }
        found: dict[str, Any] = {
            "call_info": call,
            "service_config": self._one((room, room, None)),
        }
        if kind == "participant":
            found["participant"] = {
                "preauthenticated_role": self._one(("chair", "guest", None)),
                "remote_display_name": self._one(ALIASES),
                "idp_attributes": self._one(({}, {"group": ["a", "b"], "X-wing pilot": "yes"})),
            }
        if kind == "media_location":
            found["suggested_media_overflow_locations"] = {
                "location": "Oslo",
                "primary_overflow_location": self._one(("Bergen", None)),
            }
        return found

    def moment(self) -> float:
        """Return a time in seconds since 1970, from 2024 to 2029."""
        return float(self._random.randrange(1_704_067_200, 1_861_920_000))

    def _tag(self, name: str, rest: str) -> str:
        left, right = self._one(("", "", "-")), self._one(("", "", "-"))
        return f"{{%{left} {name} {rest} {right}%}}{self._one(('', chr(10), '  '))}"

    def _statement(self) -> str:
        choice = self._random.randrange(6)
        if choice == 0:
            return "{# a comment with {{ braces }} #}\n"
        if choice == 1:
            return f"{{{{ pex_debug_log({quoted('a line ')}, {self._text(1)}) }}}}\n"
        name = f"v{len(self._sets)}"
        if choice == 2:
            values = ", ".join(quoted(self._one(WORDS)) for _ in range(2))
            extended = f"{{% if {name}.extend([{self._text(1)}]) %}}{{% endif %}}"
            written = f"{{% set {name} = [{values}] %}}{extended}\n"
        else:
            written = f"{{% set {name} = {self._text(2)} %}}\n"
        self._sets.append(name)
        return written

    def _document(self, kind: Kind) -> str:
        if kind == "media_location":
            return self._media_location()
        action = self._one(("continue", "continue", "continue", "reject", "redirect"))
        if action == "reject":
            return self._one(
                (
                    '{"action": "reject", "result": {}}',
                    '{"status": "success", "action": "reject", "result": {"reject_reason": "No"}}',
                )
            )
        if action == "redirect" and kind == "service":
            return f'{{"action": "redirect", "result": {{"new_alias": {self._printed()}}}}}'
        base = "service_config" if kind == "service" else "participant"
        field = "name" if kind == "service" else "remote_display_name"
        changed = f'{{"{field}": {self._text(2)}, "pin": {self._text(1)}}}'
        printed = f'"{field}": {self._printed()}'
        number = f'"x": {{{{ {self._number(2)} }}}}'
        return self._one(
            (
                f'{{"action": "continue", "result": {{{{ {base}|pex_to_json }}}}}}',
                f'{{"action": "continue", "result": {updated(base, changed)}}}',
                f'{{"action": "reject", "action": "continue", "result": {{{printed}}}}}',
                f'{{"action": "continue", "result": {{{printed}, {number}}}}}',
                '{"action": "continue", "result": {}}',
            )
        )

    def _media_location(self) -> str:
        base = "suggested_media_overflow_locations"
        listed = f'"overflow_locations": ["Oslo", {quoted(self._one(ALIASES))}]'
        changed = f'{{"location": {self._text(1)}}}'
        return self._one(
            (
                f'{{"result": {{{{ {base}|pex_to_json }}}}}}',
                f'{{"result": {updated(base, changed)}}}',
                f'{{"result": {{"location": {self._printed()}, {listed}}}}}',
            )
        )

    def _printed(self) -> str:
        """Return a value of the printed JSON: often right, and sometimes broken by quotes."""
        if self._random.random() < 0.4:
            return f'"{{{{ {self._text(2)} }}}}"'
        return f"{{{{ {self._text(2)}|pex_to_json }}}}"

    def _text(self, depth: int) -> str:
        start = self._plain()
        if depth == 0:
            return start
        inner = self._text(depth - 1)
        word, found = quoted(self._one(WORDS)), quoted(self._one(PATTERNS))
        count = self._random.randrange(1, 9)
        filtered = f"({inner})|{self._one(TEXT_FILTERS)}"
        joined = self._one(('join(" ")', "first", "last"))
        counted = (
            f"pex_random_pin({count})|length",
            f'""|pex_random_pin({count})|pex_strlen',
            "pex_uuid4()|length",
            f"{count}|range|join",
        )
        return self._one(
            (
                *(filtered,) * 4,
                f"({inner} + {word})",
                f"({inner})|pex_regex_replace({found}, {quoted(self._one(REPLACEMENTS))})",
                f"({inner})|{self._one(('pex_head', 'pex_tail'))}({self._random.randrange(40)})",
                f"({inner})|pex_require_min_length({count // 3})",
                f"({inner} if {self._truth(depth - 1)} else {start})",
                f"pex_regex_search({found}, {start})[0]",
                f'pex_find_first_match([{start}, {word}, "x9"], {found})',
                f'"%s of %s"|format({inner}, {start})',
                f"[{inner}, {start}]|{joined}",
                self._one(counted),
                self._one(FITTING),
                f"{quoted(self._one(ALIASES))}|{self._one(LINK_FILTERS)}",
                f"call_info.{self._one(KEYS)}|{self._one(LINK_FILTERS)}",
            )
        )

    def _plain(self) -> str:
        key = self._one(KEYS)
        return self._one(
            (
                f"call_info.{key}",
                f"call_info.{key}",
                f'call_info.get("{key}")',
                f'call_info["{key}"]',
                "service_config.name",
                'participant.idp_attributes.get("X-wing pilot")',
                f'call_info.{key}|default("", true)',
                quoted(self._one(ALIASES)),
                *self._sets,
            )
        )

    def _number(self, depth: int) -> str:
        start = self._one(
            (
                "call_info.bandwidth",
                "call_info.remote_port",
                "7",
                "-2.5",
                f"pex_now({self._one(ZONES)})."
                + self._one(("year", "month", "day", "hour", "minute", "second", "microsecond")),
                f"({self._plain()})|pex_strlen",
                f"({self._plain()})|length",
            )
        )
        if depth == 0:
            return start
        inner = self._number(depth - 1)
        return self._one(
            (
                f"({inner} + {start})",
                f"({inner} / 4)",
                f"({inner} % 7)",
                f"({inner} - {start})",
                f"({inner})|{self._one(NUMBER_FILTERS)}",
                f"({self._plain()})|int",
                f"({self._plain()})|float",
            )
        )

    def _truth(self, depth: int) -> str:
        text, word = self._plain(), quoted(self._one(WORDS))
        networks = ", ".join(quoted(self._one(NETWORKS)) for _ in range(2))
        leaf = self._one(
            (
                "service_config",
                "call_info.registered",
                f"{text} is defined",
                f"({text})|default({word}, true) == {word}",
                f"{word} in ({text})|default({word}, true)",
                f"{text} not in [{word}, {quoted('9123')}]",
                f"call_info.local_alias.{self._one(METHODS)}({word})",
                f"call_info.remote_alias.{self._one(METHODS)}(({word}, {quoted('sip:')}))",
                f"{self._number(1)} {self._one(COMPARISONS)} {self._number(0)}",
                f"pex_in_subnet(call_info.remote_address, [{networks}])",
                f"pex_regex_search({quoted(self._one(PATTERNS))}, {text})",
                f"service_config == {self._one(('None', 'none'))}",
                f"call_info.registered == {self._one(('True', 'true', 'False', 'false'))}",
            )
        )
        if depth == 0:
            return leaf
        return self._one(
            (
                leaf,
                leaf,
                f"not {self._truth(depth - 1)}",
                f"({leaf} {self._one(('and', 'or'))} {self._truth(depth - 1)})",
            )
        )
