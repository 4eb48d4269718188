"""Pictures from a source of rows, such as an LDAP directory."""

from __future__ import annotations

import asyncio
import binascii
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pexpolicy import Alias, SettingsError
from pexpolicy.rows import RowSource
from pexpolicy_avatars.source import MAX_BYTES, PictureError
from pexpolicy_avatars.template import MAX_LENGTH, PLACEHOLDERS

MAX_BASE64 = MAX_BYTES // 3 * 4 + 1024
"""Characters of a picture; a few line breaks are among them."""

BEGINNINGS = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"BM")
"""Of a JPEG, PNG, GIF, WebP and BMP."""


class RowPictures:
    """Asks a source for the row of a person; raises ``SettingsError`` for the query.

    The first column with a value is the picture, in Base64.
    """

    name = "source"

    def __init__(self, source: RowSource, query: str) -> None:
        try:
            # Pictures are large, and the plugin keeps them itself.
            self._people = source.lookup(query, PLACEHOLDERS, entries=0)
        except ValueError as error:
            raise SettingsError(str(error), key=("query",)) from None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Do nothing: the server opens the source."""
        yield

    async def fetch(self, alias: Alias) -> bytes | None:
        """Return the picture of an alias, ``None`` without one; raises ``PictureError``."""
        if len(alias) > MAX_LENGTH:
            return None
        found = await self._people.ask(alias=alias, user=alias.user, host=alias.host)
        if len(found.rows) > 1:
            raise PictureError(f"{len(found.rows)} people have this alias")
        written = _first(found.rows[0]) if found.rows else None
        if written is None:
            return None
        if isinstance(written, str) and len(written) > MAX_BASE64:
            raise PictureError(f"the picture has more than {MAX_BYTES:,} bytes")
        try:
            image = await asyncio.to_thread(binascii.a2b_base64, written)
        except (TypeError, ValueError):
            image = b""
        if not image.startswith(BEGINNINGS):
            # Its content may be anything, such as a password, and is in no message.
            raise PictureError("the first column with a value is no picture in Base64")
        return image


def ignores_the_host(query: str) -> bool:
    """Return whether people of different domains get the same picture."""
    names = set(re.findall(r"[{:](\w+)", query))
    return "user" in names and not names & {"alias", "host"}


def _first(row: Mapping[str, Any]) -> Any:
    """Return the first value of a row, and of several values the first."""
    value = next((value for value in row.values() if value not in (None, "", [])), None)
    return value[0] if isinstance(value, list) else value
