"""Hints for files that are not valid TOML."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

from pexpolicy.config.problems import dotted_key

AT = re.compile(r"\s*\(at line (\d+), column (\d+)\)\Z")
"""The place at the end of a message of the parser."""
_KEY = re.compile(r"\((?:'|\").*\)")
_WORD = re.compile(r"[^\s,\]}#]+")
_NUMBER = re.compile(r"=\s*(?P<zeros>0\d+)\s*(?:#.*)?$|=\s*\d[\dA-Fa-f]*(?:[.:][\dA-Fa-f]+){2,}")
_LOGICAL = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false"}
_LOGICAL["off"] = "false"
_CURLY = re.compile("[\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb]")


def clean_message(message: str) -> str:
    """Return a message of the parser, with keys as they are written in the file."""
    found = _KEY.search(AT.sub("", message))
    if found is None:
        return message.replace("Cannot overwrite a value", "The key is there already")
    try:
        key = ast.literal_eval(found[0])
    except (ValueError, SyntaxError):
        return message
    return message.replace(found[0], dotted_key(key))


def place_of(message: str, hint: str) -> tuple[int, int] | None:
    """Return the line and column in a message of the parser or in the hint, both from 1."""
    if (found := AT.search(message)) is not None:
        return int(found[1]), int(found[2])
    found = re.search(r"in line (\d+)\Z", hint)
    return None if found is None else (int(found[1]), 1)


def suggest_fix(message: str, text: str) -> str:  # noqa: PLR0911 - one for each form
    """Return what to write instead, after a semicolon; nothing if that is not certain.

    No value of the file is repeated: it may be a password.
    """
    if text.startswith("<<<<<<< ") or "\n<<<<<<< " in text:
        number = text[: text.index("<<<<<<< ")].count("\n") + 1
        return f"; git has left a conflict: keep one of the versions in line {number}"
    if other := _other_format(text):
        return f"; this looks like {other}, and TOML is needed: name = value below [table]"
    if any(
        part in message for part in ("Illegal character '\\n'", "Unterminated", 'Expected "\'"')
    ):
        return "; a closing quote is missing" + _open_quote(text, at_the_end="line" not in message)
    if "Unescaped '\\'" in message or "hex value" in message:
        return "; write the text in single quotes, or each backslash twice"
    if (found := AT.search(message)) is not None:
        written = text.replace("\r\n", "\n").split("\n")
        lines, rest = written[: int(found[1])], written[int(found[1]) :]
        if re.fullmatch(r"\s*[\w.-]+\s*=\s*(#.*)?", lines[-1]) and re.match(
            r"\s*- ", "".join(rest[:1])
        ):
            return '; write a list in square brackets, as in ["first", "second"]'
        return _hint_for_line(message, lines, int(found[2]) - 1)
    return "; the file ends inside a value" if message.startswith("Invalid value") else ""


def _open_quote(text: str, *, at_the_end: bool) -> str:
    """Name the last line whose quote is not closed, if the parser names no line."""
    odd = [n for n, line in enumerate(text.split("\n"), 1) if line.count("'") % 2]
    odd = odd or [n for n, line in enumerate(text.split("\n"), 1) if line.count('"') % 2]
    return f" in line {odd[-1]}" if at_the_end and odd else ""


def _other_format(text: str) -> str:
    """Return the name of another format that the file looks like, or nothing."""
    lines = (line.strip() for line in text.split("\n"))
    first = next((line for line in lines if line and not line.startswith(("#", "//"))), "")
    if first.startswith("{") or re.match(r"\[\s*[{\[]?\s*$", first):
        return "JSON"
    if first.startswith("<"):
        return "XML"
    if re.fullmatch(r"[\w. \"-]+([,;][\w. \"-]*)+", first):
        return "CSV"
    return "YAML" if first == "---" or re.match(r"(- )?[\w.-]+:(\s|$)", first) else ""


def _duplicate_key(lines: list[str]) -> str:
    """Name the line of a duplicate key in the same table."""
    if array := re.match(r"\s*\[\[\s*(.+?)\s*\]\]", lines[-1]):
        for number, line in enumerate(lines[:-1], 1):
            if re.match(rf"\s*\[\s*{re.escape(array[1])}\s*[.\]]", line):
                return f"; line {number} has it with single brackets: write both in one form"
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


def _hint_for_line(message: str, lines: list[str], column: int) -> str:
    """Return a hint for the last one of these lines."""
    line = lines[-1]
    if quote := _CURLY.search(line.partition("#")[0]):
        return f'; {quote[0]} is not a TOML quote: write a straight one, "'
    advice: dict[str, Callable[[], str]] = {
        "Cannot overwrite": lambda: _duplicate_key(lines),
        "Invalid value": lambda: _hint_for_value(line, column) or _hint_for_rest(line, column),
        "Invalid statement": lambda: _hint_for_rest(line, column),
        "Invalid initial": lambda: _hint_for_braces(line),
        "Invalid date": lambda: "; there is no such day or time",
        "Expected '='": lambda: _hint_for_key(line, column),
        "Expected newline": lambda: _hint_for_number(line) or _hint_for_rest(line, column),
        "Cannot declare": lambda: _duplicate_table(line, lines[:-1]),
        "Unclosed array": lambda: _hint_for_list(line),
    }
    for beginning, advise in advice.items():
        if message.startswith(beginning):
            return advise()
    odd = line[column : column + 1] in (":", "@", "*")
    if odd and message.startswith("Expected ']' at the end of a table"):
        return "; write a name with such characters in quotes"
    if message.startswith("Expected ']' at the end of a table") and column == len(line):
        return "; write ] at the end of the line"
    return ""


def _hint_for_value(line: str, column: int) -> str:  # noqa: PLR0911 - one for each form
    """Return a hint for a bare word in place of a value."""
    found = _WORD.match(line, column)
    before, after = line[:column], line[found.end() if found else column :]
    alone = not before.strip() and re.fullmatch(r"\s*,?\s*(#.*)?", after)
    if found is None or not ("=" in before or alone):
        return ""  # it may be the next key after a bracket that was left open
    word = found[0]
    if (logical := _LOGICAL.get(word.lower())) is not None:
        hint = f"; write {logical}, in lower case and without quotes"
        if word.lower() in ("true", "false"):
            return hint
        return f"{hint}; or, if it is text, the word in quotes"
    if word.lower() in ("none", "null", "nil"):
        return "; leave the key out to get its default"
    if word.startswith(("$", "%", "{{")):
        return "; variables are not replaced in this file: write the value"
    if word.startswith("="):
        return "; write a single ="
    return _quoted(line) if word[0].isalpha() or word[0] in "/:@*~_" else ""


def _hint_for_number(line: str) -> str:
    """Return a hint for a value that begins like a number."""
    found = _NUMBER.search(line)
    if found is None:
        return ""
    return _quoted(line) + (", and a number has no leading zeros" if found["zeros"] else "")


def _hint_for_rest(line: str, column: int) -> str:
    """Return a hint for what is in a line after its value, or in place of one."""
    rest = line[column:].lstrip()
    odd = next((f"U+{ord(c):04X}" for c in line if c.isspace() and c not in " \t\r"), "")
    hints = {
        f"; remove the {rest[:1]} at the end of the line": rest.strip() in (";", ","),
        "; a comment begins with #": rest.startswith(("//", ";")),
        _quoted(line): rest.startswith("/"),
        "; is a ] missing before this line?": line.lstrip().startswith("["),
        "; write a value after the =": "=" in line and not line.partition("=")[2].strip(),
        f"; it has a blank of another kind, {odd}: write it again": odd,
    }
    return next((hint for hint, is_so in hints.items() if is_so), "")


def _hint_for_key(line: str, column: int) -> str:
    """Return a hint for a name that is not followed by an equals sign."""
    if re.match(r":\S.*=", line[column:].lstrip()):
        return '; write a name with such characters in quotes, as in "sip:a@example.com".name'
    if line[column:].lstrip().startswith(":"):
        return "; write = and not : after a name"
    if re.match(r"(!=|[<>]=?|=~)", line[column:].lstrip()):
        return "; write = only: a condition names its operator, as in local_alias.not_equals = …"
    if "=" in line[column:]:
        return "; a name with a blank needs quotes; most have _ instead"
    return "; write = between a name and its value"


def _hint_for_list(line: str) -> str:
    if re.search(r"[\[,]\s*[\dA-Fa-f]+(?:[.:][\dA-Fa-f]*){2,}", line):
        return '; write each text in quotes, as in ["10.0.0.0/8"]'
    return "; write a comma between two items, and ] after the last"


def _hint_for_braces(line: str) -> str:
    text = "; braces end on the same line: write a table of its own, below [NAME]"
    if re.search(r",\s*\}\s*(#.*)?$", line):
        return "; write no comma before }"
    return text if line.rstrip().endswith(("{", ",")) else ""


def _quoted(line: str) -> str:
    key = re.match(r"\s*([\w.-]+)\s*=\s*[^\s\[{]", line)
    return f'; write text in quotes, as in {key[1] if key else "name"} = "…"'


def _duplicate_table(line: str, before: list[str]) -> str:
    """Name the line of a duplicate table."""
    header = re.compile(rf"\s*{re.escape(line.partition('#')[0].strip())}\s*(#.*)?")
    for number, other in enumerate(before):
        if header.fullmatch(other):
            return f"; it is in line {number + 1} already: write its keys there"
    return "; a line above has some of its keys already: write all below one header"
