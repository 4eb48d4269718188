"""Values of a request that reports of errors must not hold, and their removal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from pexpolicy.models.alias import passwords
from pexpolicy.models.request import Request, header_name, parameters_of, secrets_of

SHORTEST = 4
"""Characters of the shortest undeclared value: shorter ones are parts of other words."""
MAX_VALUES = 50
"""Undeclared values and passwords that are looked for; a call of Infinity has one or two."""
MAX_SECRETS = 50
"""Secrets that are replaced in one text: each takes a pass over it."""
_IDP_ATTRIBUTE = "idp_attribute_"
_WORDS = frozenset(("true", "false", "none", "null"))


def withheld_values(request: Request) -> list[str]:
    """Return the secrets of a request, the passwords in its URIs, and the values of parameters that
    are not declared: these may be anything, so the audit leaves them out too.
    """
    return [*secrets_of(request), *islice(_further_values(request), MAX_VALUES)]


def _further_values(request: Request) -> Iterator[str]:
    declared = {header_name(p.wire) for p in parameters_of(type(request)).values()}
    shown: list[str] = []
    undeclared: list[str] = []
    for name, value in request.params.items():
        yield from passwords(value)
        is_declared = header_name(name) in declared or name.startswith(_IDP_ATTRIBUTE)
        (shown if is_declared else undeclared).append(value)
    for value in undeclared:
        is_word = len(value) < SHORTEST or value.lower() in _WORDS
        if not is_word and not any(value in other for other in shown):
            yield value


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return a text with ``***`` for each of the secrets, in any case; longest first.

    A text with more than ``MAX_SECRETS`` of them, which a repeated parameter makes, is ``***``.
    """
    folded = text.casefold()
    held = (secret for secret in dict.fromkeys(secrets) if secret.casefold() in folded)
    found = list(islice(held, MAX_SECRETS + 1))
    if len(found) > MAX_SECRETS:
        return "***"
    for secret in sorted(found, key=len, reverse=True):
        text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
    return text
