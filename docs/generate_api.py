"""The generator of plugins/api.md: the names that plugins import, with their signatures."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

from docs.generate_settings import table
from pexpolicy.models.decision import Model
from pexpolicy.models.request import Request

PAGE = Path(__file__).parent / "plugins" / "api.md"
MODULES = (
    "pexpolicy",
    "pexpolicy.rows",
    "pexpolicy.fields",
    "pexpolicy.files",
    "pexpolicy.config.outgoing",
)
INTRODUCTION = """# Index of the API

The names that plugins import; [upgrading.md](upgrading.md) says what stays. Tests import from
`pexpolicy.testing`, see [testing](../testing.md). The fields of decisions and the parameters of
requests are in the [reference](../reference.md).
"""
MEANINGS = {
    "ConfigPath": "A setting of a plugin that names a file, relative to the configuration file.",
    "Key": "A key of the settings, as a tuple of names and numbers.",
    "Result": "A dictionary that is used as `result` of the reply.",
    "Secret": "A setting `NAME` that is read from the variable `NAME_env` or the file `NAME_file`.",
    "Service": "The base of the six kinds of service.",
    "Source": "A setting `Source[T]` names a table `[sources.NAME]`; its value is the driver.",
    "UNSET": "The value of a field that is not set.",
    "Unset": "The type of `UNSET` and of a value, for fields that may be unset.",
    "WrittenFolder": "The same as `ConfigPath` for a folder that the plugin makes and writes to.",
    "WebAddress": "A setting that is an HTTP URL without credentials.",
    "hookimpl": "Mark a method as a hook, in a class that does not inherit `Plugin`.",
}
"""What is said of names without a docstring of their own."""


def page() -> str:
    """Return the whole page."""
    return INTRODUCTION + "".join(_section(import_module(name)) for name in MODULES)


def _section(module: ModuleType) -> str:
    names = sorted(module.__all__, key=str.casefold)
    rows = [
        (f"`{_signature(name, getattr(module, name))}`", _meaning(module, name)) for name in names
    ]
    return f"\n## {module.__name__}\n\n{table(('name', 'meaning'), rows)}"


def _signature(name: str, value: object) -> str:
    """Return how a name is called; the many fields of decisions and requests are left out."""
    if isinstance(value, type) and issubclass(value, Model | Request):
        return f"{name}(...)"
    try:
        signature = inspect.signature(value) if callable(value) else None
    except (TypeError, ValueError):
        signature = None
    found = [] if signature is None else list(signature.parameters.values())
    # Only what is written in the source has annotations as texts.
    if signature is None or not all(isinstance(one.annotation, str) for one in found):
        return name
    parts: list[str] = []
    for one in found:
        if one.kind is one.KEYWORD_ONLY and "*" not in "".join(parts):
            parts.append("*")
        default = "" if one.default is one.empty else f" = {_default(one.default)}"
        star = "*" if one.kind is one.VAR_POSITIONAL else ""
        parts.append(f"{star}{one.name}: {one.annotation}{default}")
    result = signature.return_annotation
    answer = f" -> {result}" if inspect.isfunction(value) and result != "None" else ""
    return f"{name}({', '.join(parts)}){answer}"


def _default(value: object) -> str:
    return "..." if repr(value).startswith(("<", "Extras")) else repr(value)


def _meaning(module: ModuleType, name: str) -> str:
    if name in MEANINGS:
        return MEANINGS[name]
    text = inspect.getdoc(getattr(module, name)) or ""
    first = re.split(r"(?<=[.!?])\s", " ".join(text.partition("\n\n")[0].split()))[0]
    return first.replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
