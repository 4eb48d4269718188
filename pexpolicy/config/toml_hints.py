"""What a file that is not valid TOML needs, in words for the person who wrote it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

from pexpolicy.config.problems import dotted_key

AT = re.compile(r"\s*\(at line (\d+), column (\d+)\)\Z")
"""The place that the parser names at the end of what it says."""
_KEY = re.compile(r"\((?:'|\").*\)")
_WORD = re.compile(r"[^\s,\]}#]+")
_NUMBER = re.compile(r"=\s*(?P<zeros>0\d+)\s*(?:#.*)?$|=\s*\d[\dA-Fa-f]*(?:[.:][\dA-Fa-f]+){2,}")
_LOGICAL = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false"}
_LOGICAL["off"] = "false"
_CURLY = re.compile("[\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb]")


def clean_message(said: str) -> str:
    """What the parser says, with keys as they are written in the file."""
    found = _KEY.search(AT.sub("", said))
    if found is None:
        return said.replace("Cannot overwrite a value", "The key is there already")
    try:
        key = ast.literal_eval(found[0])
    except (ValueError, SyntaxError):
        return said
    return said.replace(found[0], dotted_key(key))


def suggest_fix(said: str, text: str) -> str:
    """What to write instead, behind a semicolon; nothing where that is not certain.

    No value of the file is repeated: it may be a password.
    """
    if other := _other_format(text):
        return f"; this looks like {other}, and TOML is needed: name = value below [table]"
    if any(part in said for part in ("Illegal character '\\n'", "Unterminated", 'Expected "\'"')):
        return "; a closing quote is missing"
    if "Unescaped '\\'" in said:
        return "; write the text in single quotes, or each backslash twice"
    if (found := AT.search(said)) is not None:
        lines = text.replace("\r\n", "\n").split("\n")[: int(found[1])]
        return _of_line(said, lines, int(found[2]) - 1)
    return "; the file ends inside of a value" if said.startswith("Invalid value") else ""


def _other_format(text: str) -> str:
    """Return the name of another format in which the file is written, or nothing."""
    lines = (line.strip() for line in text.split("\n"))
    first = next((line for line in lines if line and not line.startswith(("#", "//"))), "")
    if first.startswith("{") or re.match(r"\[\s*[{\[]?\s*$", first):
        return "JSON"
    if first.startswith("<"):
        return "XML"
    return "YAML" if first == "---" or re.match(r"(- )?[\w.-]+:(\s|$)", first) else ""


def _of_key(lines: list[str]) -> str:
    """For a key that there is already: where, if it is in the same table."""
    key = re.match(r"\s*([\w.\"'-]+)\s*=", lines[-1])
    if key is None:
        return ""
    same = re.compile(rf"\s*{re.escape(key[1])}\s*=")
    for number in range(len(lines) - 2, -1, -1):
        if same.match(lines[number]):
            return f"; {key[1]} is in line {number + 1} already: keep one of the two"
        if lines[number].lstrip().startswith("["):
            return ""
    return ""


def _of_line(said: str, lines: list[str], column: int) -> str:
    """For what is wrong with the last one of these lines."""
    line = lines[-1]
    if quote := _CURLY.search(line.partition("#")[0]):
        return f'; {quote[0]} is no quote of TOML: write a straight one, "'
    advice: dict[str, Callable[[], str]] = {
        "Cannot overwrite": lambda: _of_key(lines),
        "Invalid value": lambda: _of_word(line, column),
        "Expected newline": lambda: _of_number(line),
        "Cannot declare": lambda: _of_table(line, lines[:-1]),
    }
    for beginning, advise in advice.items():
        if said.startswith(beginning):
            return advise()
    odd = line[column : column + 1] in (":", "@", "*")
    if odd and said.startswith("Expected ']' at the end of a table"):
        return "; a name with such characters stands in quotes"
    return ""


def _of_word(line: str, column: int) -> str:
    """For a word that stands where a value should."""
    found = _WORD.match(line, column)
    before, behind = line[:column], line[found.end() if found else column :]
    alone = not before.strip() and re.fullmatch(r"\s*,?\s*(#.*)?", behind)
    if found is None or not ("=" in before or alone):
        return ""  # it may be the next key behind a bracket that was left open
    word = found[0]
    if (logical := _LOGICAL.get(word.lower())) is not None:
        written = f"; write {logical}, in small letters and without quotes"
        if word.lower() in ("true", "false"):
            return written
        return f"{written}; or, where text is wanted, the word in quotes"
    if word.lower() in ("none", "null", "nil"):
        return "; leave the key out to have its default"
    return _quoted(line) if word[0].isalpha() or word[0] in "/:@*~_$" else ""


def _of_number(line: str) -> str:
    """For what begins as a number, and is none."""
    found = _NUMBER.search(line)
    if found is None:
        return ""
    return _quoted(line) + (", and a number has no zeros in front" if found["zeros"] else "")


def _quoted(line: str) -> str:
    key = re.match(r"\s*([\w.-]+)\s*=\s*[^\s\[{]", line)
    return f'; text stands in quotes, as in {key[1] if key else "name"} = "…"'


def _of_table(line: str, before: list[str]) -> str:
    """For a table that there is already: where."""
    header = re.compile(rf"\s*{re.escape(line.partition('#')[0].strip())}\s*(#.*)?")
    for number, other in enumerate(before):
        if header.fullmatch(other):
            return f"; it is in line {number + 1} already: write its keys there"
    return ""
