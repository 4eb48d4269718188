"""Command ``pexpolicy new-plugin``: a package with a plugin, from templates.

``template/package`` has one template for each file of the package, ``template/hooks`` the parts
that differ between hooks.
"""

from __future__ import annotations

import builtins
import re
import shlex
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from keyword import iskeyword
from pathlib import Path
from string import Template

import click

from pexpolicy import __version__, api
from pexpolicy.cli.common import examples, refuse
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.plugins.discovery import RESERVED, installed

MAX_NAME = 30
"""Characters; the lines of the templates are laid out for names up to this length."""
TEMPLATES = Path(str(files("pexpolicy.cli"))) / "template"
_USED = frozenset(("AllSettings", "Field", "Image", "Mapping", "Network", "Settings"))
_SEPARATORS = re.compile(r"[-_.\s]+")


class ScaffoldError(Exception):
    """Raised when nothing was written; the text has the reason and a remedy."""


@click.command(
    "new-plugin",
    epilog=examples(
        "pexpolicy new-plugin blocklist",
        "pexpolicy new-plugin bookings --hook service_configuration --hook media_location",
    ),
)
@click.argument("name")
@click.option(
    "--directory",
    "-d",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    show_default=True,
    help="Parent folder of the package.",
)
@click.option(
    "--hook",
    "hooks",
    type=click.Choice(list(ENDPOINTS)),
    default=["service_configuration"],
    show_default=True,
    multiple=True,
    help="The request that the plugin answers; may be repeated.",
)
def new_plugin(name: str, directory: Path, hooks: tuple[str, ...]) -> None:
    """Write a package with a working, tested plugin NAME."""
    try:
        plugin = NewPlugin(plugin_name(name), tuple(dict.fromkeys(hooks)))
        folder = write(plugin, directory)
    except ScaffoldError as error:
        refuse(str(error))
    click.echo(f"{folder} contains the plugin {plugin.name}. To try it:\n")
    click.echo(f"  cd {shlex.quote(str(folder))} && python -m pip install -e '.[dev]'")
    click.echo("  python -m pytest\n  pexpolicy serve")


@dataclass(frozen=True, slots=True)
class NewPlugin:
    """Name and hooks of a new plugin, from which the names of its files derive."""

    name: str
    """As in the configuration: ``[plugins.NAME]``."""
    hooks: tuple[str, ...]

    @property
    def distribution(self) -> str:
        """Return the name of the distribution and of its folder."""
        return f"pexpolicy-{self.name.replace('_', '-')}"

    @property
    def package(self) -> str:
        """Return the name of the import package."""
        return self.distribution.replace("-", "_")

    @property
    def class_name(self) -> str:
        """Return the name of the plugin class, distinct from all names that the package uses."""
        name = _camel_case(self.name)
        taken = name in api.__all__ or name in _USED or hasattr(builtins, name)
        return f"{name}Plugin" if taken else name


def _camel_case(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def plugin_name(written: str) -> str:
    """Return a plugin name in its normal form; raises ``ScaffoldError`` for an invalid one.

    ``Front-Desk``, ``front.desk`` and ``pexpolicy-front-desk`` are all ``front_desk``.
    """
    lowered = re.sub(r"^pexpolicy[-_.\s]+", "", written.strip().lower())
    name = _SEPARATORS.sub("_", lowered).strip("_")
    taken, text = installed().get(name), ""
    if not re.fullmatch(rf"[a-z][a-z0-9_]{{0,{MAX_NAME - 1}}}", name) or iskeyword(name):
        text = (
            f"{written!r} is not a plugin name: write a letter, then letters, digits and "
            f"underscores, {MAX_NAME} characters at most, and no keyword of Python"
        )
    elif name in RESERVED:
        text = f"{name!r} is reserved: decided_by has it where no plugin decides; choose another"
    elif taken is not None:
        text = f"{name!r} is taken: {taken.distribution} {taken.version} is installed"
    if text:
        raise ScaffoldError(text)
    return name


def write(plugin: NewPlugin, parent: Path) -> Path:
    """Write the package into a new folder in ``parent``, and return that folder.

    Raises ``ScaffoldError`` if it exists or cannot be written.
    """
    folder, content = parent / plugin.distribution, render(plugin)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        for name, text in content.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    except FileExistsError as error:
        text = f"{error.filename} already exists: remove it, or choose another --directory or name"
        raise ScaffoldError(text) from None
    except OSError as error:
        text = f"{error.filename} cannot be written: {error.strerror}"
        raise ScaffoldError(text) from None
    return folder


def render(plugin: NewPlugin) -> dict[str, str]:
    """Return the files of the package by path."""
    names = {
        "name": plugin.name,
        "package": plugin.package,
        "class_name": plugin.class_name,
        "distribution": plugin.distribution,
        "version": __version__,
    }
    found, many = {}, len(plugin.hooks) > 1  # of several, each has a class and a module
    for hook in plugin.hooks:
        values = names
        if many:
            values = names | {"package": f"{plugin.package}.{hook}", "class_name": _class_of(hook)}
        module, test = (hook, hook) if many else ("__init__", "plugin")
        found[f"src/{plugin.package}/{module}.py"] = _filled(f"hooks/{hook}/plugin.py", values)
        found[f"tests/test_{test}.py"] = _filled(f"hooks/{hook}/test_plugin.py", values)
    names |= _facts(plugin, names) | {
        "imports": "".join(
            f"from {plugin.package}.{hook} import {_class_of(hook)}\n"
            f"from {plugin.package}.{hook} import Settings as {_camel_case(hook)}Settings\n"
            for hook in sorted(plugin.hooks)
        ),
        "bases": "".join(f"    {_class_of(hook)},\n" for hook in plugin.hooks),
        "settings_bases": "".join(f"    {_camel_case(hook)}Settings,\n" for hook in plugin.hooks),
    }
    folder = TEMPLATES / "package"
    for path in sorted(folder.rglob("*.template")):
        name = str(path.relative_to(folder)).removesuffix(".template")
        target = name.replace("PACKAGE", plugin.package)
        found.setdefault(target, _filled(f"package/{name}", names))
    return found


def _class_of(hook: str) -> str:
    return f"{_camel_case(hook)}Hook"


def _filled(name: str, values: dict[str, str]) -> str:
    text = (TEMPLATES / f"{name}.template").read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _facts(plugin: NewPlugin, names: dict[str, str]) -> dict[str, str]:
    """Return what the files of the package tell of the hooks of a plugin."""
    facts = [
        tomllib.loads((TEMPLATES / "hooks" / hook / "facts.toml").read_text(encoding="utf-8"))
        for hook in plugin.hooks
    ]
    dependencies = dict.fromkeys(one for fact in facts for one in fact["dependencies"])
    rows = [row for fact in facts for row in fact["settings"].items()]
    noun = "the hook" if len(plugin.hooks) == 1 else "the hooks"
    return {
        "about": "\n".join(fact["about"] for fact in facts),
        "description": " ".join(fact["about"] for fact in facts),
        "hooks": f"{noun} `{'`, `'.join(plugin.hooks)}`",
        "request": facts[0]["request"],
        "rows": "\n".join(f"| `{name}` | {meaning} |" for name, meaning in rows),
        "dependencies": "".join(f'    "{one}",\n' for one in dependencies),
        "cases": "".join(
            f'\n[[case]]\nname = "{hook}: the plugin decides"\nurl = "{fact["request"]}"\n'
            f'expect = {{ decided_by = "{plugin.name}" }}\n'
            for hook, fact in zip(plugin.hooks, facts, strict=True)
        ),
        "settings": _settings(plugin.hooks, names),
    }


def _settings(hooks: Iterable[str], names: dict[str, str]) -> str:
    """Return the settings of hooks as TOML; the keys of equal tables are together."""
    tables: dict[str, list[str]] = {}
    for hook in hooks:
        header = ""
        for line in filter(None, _filled(f"hooks/{hook}/settings.toml", names).splitlines()):
            if line.startswith("["):
                header = line
            else:
                tables.setdefault(header, []).append(line)
    headers = sorted(tables, key=lambda header: header.strip("[]"))
    return "\n\n".join("\n".join([header, *tables[header]]) for header in headers) + "\n"
