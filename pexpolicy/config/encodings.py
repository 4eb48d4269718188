"""Decoding of UTF-8 text files, with hints for other encodings."""

from __future__ import annotations

import codecs

_MIN_SAMPLE = 4
"""Bytes from which on UTF-16 is detected."""
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_WORKBOOK = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
"""How .xlsx and .ods begin, as any zip archive, and .xls."""


class EncodingError(ValueError):
    """The bytes are not UTF-8 text; ``line`` is counted from 1, and 0 for the whole file."""

    def __init__(self, text: str, line: int = 0) -> None:
        super().__init__(f"line {line} {text}" if line else text)
        self.text = text
        self.line = line


def decode_text(content: bytes) -> str:
    """Decode UTF-8 with or without a byte order mark; raises ``EncodingError``."""
    if content.startswith(_UTF_16) or _looks_like_utf_16(content):
        raise EncodingError("is UTF-16, not UTF-8 text; save the file as UTF-8")
    if content.startswith(_WORKBOOK):
        text = "is a workbook (.xlsx, .ods or .xls) or an archive, not text"
        raise EncodingError(f"{text}; save the file as UTF-8")
    if b"\x00" in content:
        raise EncodingError("does not look like text: it holds NUL bytes; is it the right file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise EncodingError("is not UTF-8 text; save the file as UTF-8", line) from None


def _looks_like_utf_16(content: bytes) -> bool:
    """Detect UTF-16 without a byte order mark: each second byte of Latin text is NUL."""
    begin = content[:200]
    return len(begin) >= _MIN_SAMPLE and any(
        set(begin[at::2]) == {0} and 0 not in begin[1 - at :: 2] for at in (0, 1)
    )
