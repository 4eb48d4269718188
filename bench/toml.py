"""Writer for the subset of TOML that our config.toml uses.

The standard library reads TOML and does not write it.
"""

import json
from collections.abc import Iterator, Mapping

Table = Mapping[str, object]


def rendered(table: Table) -> str:
    """``table`` as TOML: strings, numbers, booleans, lists and tables within tables.

    :raises TypeError: for any other kind of value.
    """
    return "\n".join(_lines(table, ())) + "\n"


def _lines(table: Table, path: tuple[str, ...]) -> Iterator[str]:
    if path:
        yield f"[{'.'.join(json.dumps(part) for part in path)}]"
    for key, value in table.items():
        if not isinstance(value, Mapping):
            yield f"{json.dumps(key)} = {_value(value)}"
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _lines(value, (*path, key))


def _value(value: object) -> str:
    if isinstance(value, str | bool | int | float):
        return json.dumps(value)
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(key)} = {_value(of)}' for key, of in value.items())}}}"
    raise TypeError(f"no TOML for {type(value).__name__}")
