"""Scaffold of a plugin package, rendered from Jinja templates.

``template/package`` has one template for each file of the package, ``template/hooks`` the parts
that differ between hooks.
"""

from __future__ import annotations

import builtins
import re
import shlex
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path

from pexpolicy import __version__, api
from pexpolicy.plugins.discovery import RESERVED, installed

MAX_NAME = 30
"""Characters; the lines of the templates are laid out for names up to this length."""
_USED = frozenset(("Field", "Image", "Mapping", "Network", "Settings"))
_PREFIX = re.compile(r"pexpolicy[-_.\s]+")
_SEPARATORS = re.compile(r"[-_.\s]+")
_NAME = re.compile(rf"[a-z][a-z0-9_]{{0,{MAX_NAME - 1}}}")


class ScaffoldError(Exception):
    """Raised when nothing was written; the text has the reason and a remedy."""


@dataclass(frozen=True, slots=True)
class NewPlugin:
    """Name and hooks of a new plugin, from which the names of its files derive."""

    name: str
    """As in the configuration: ``[plugins.NAME]``."""
    hooks: tuple[str, ...]
    distribution: str = ""
    """Name of the distribution and of its folder, by default ``pexpolicy-NAME``."""

    def __post_init__(self) -> None:
        own = self.distribution or f"pexpolicy-{self.name.replace('_', '-')}"
        object.__setattr__(self, "distribution", own)

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

    @property
    def parts(self) -> tuple[_Part, ...]:
        """Return a class for each hook: the plugin itself if there is one only."""
        if len(self.hooks) == 1:
            return (_Part(self.name, self.hooks[0], self.package, self.class_name),)
        return tuple(
            _Part(self.name, hook, f"{self.package}.{hook}", f"{_camel_case(hook)}Hook")
            for hook in self.hooks
        )


@dataclass(frozen=True, slots=True)
class _Part:
    """The class of one hook, and the module that defines it."""

    name: str
    hook: str
    package: str
    class_name: str


def _camel_case(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def distribution_name(written: str) -> str:
    """Return the name of a distribution in its normal form; raises ``ScaffoldError``."""
    name = _SEPARATORS.sub("-", written.strip().lower()).strip("-")
    package = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,59}", name) or iskeyword(package):
        text = (
            f"{written!r} is not a name for a package: write a letter, then letters, digits and "
            "hyphens, 60 characters at most, such as acme-vip"
        )
        raise ScaffoldError(text)
    if find_spec(package) is not None:
        text = f"{package!r} is the name of a module that is installed; choose another --package"
        raise ScaffoldError(text)
    return name


def plugin_name(written: str) -> str:
    """Return a plugin name in its normal form; raises ``ScaffoldError`` for an invalid one.

    ``Front-Desk``, ``front.desk`` and ``pexpolicy-front-desk`` are all ``front_desk``.
    """
    lowered = _PREFIX.sub("", written.strip().lower(), count=1)
    name = _SEPARATORS.sub("_", lowered).strip("_")
    if not _usable(name):
        text = (
            f"{written!r} is not a plugin name: write a letter, then letters, digits and "
            f"underscores, {MAX_NAME} characters at most, and no keyword of Python"
            f"{_suggestion(name)}"
        )
        raise ScaffoldError(text)
    if name in RESERVED:
        text = f"{name!r} is reserved: decided_by has it where no plugin decides; choose another"
        raise ScaffoldError(text)
    if (taken := installed().get(name)) is not None:
        text = f"{name!r} is taken: {taken.distribution} {taken.version} is installed"
        raise ScaffoldError(text)
    return name


def _usable(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not iskeyword(name)


def _suggestion(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    guess = re.sub(r"[^a-z0-9]+", "_", plain).lstrip("_0123456789")[:MAX_NAME].strip("_")
    if iskeyword(guess):
        guess += "_rules"
    return f"; did you mean {guess!r}?" if _usable(guess) else ""


def write(plugin: NewPlugin, parent: Path) -> Path:
    """Write the package into a new folder in ``parent``, and return that folder.

    Raises ``ScaffoldError`` if it exists or cannot be written.
    """
    files = render(plugin)
    folder = parent / plugin.distribution
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8", newline="\n")
    except FileExistsError as error:
        text = f"{error.filename} already exists: remove it, or choose another --directory or name"
        raise ScaffoldError(text) from None
    except OSError as error:
        text = f"{error.filename} cannot be written: {error.strerror}"
        raise ScaffoldError(text) from None
    return folder


def render(plugin: NewPlugin) -> dict[str, str]:
    """Return the files of the package by path; raises ``ScaffoldError`` without Jinja."""
    if find_spec("jinja2") is None:
        text = (
            "new-plugin needs Jinja for its templates. In a virtual environment for plugins, "
            "not that of a server, run:\n"
            "  python -m pip install '.[author]'            in a clone of pexpolicy\n"
            "  python -m pip install 'pexpolicy[author]'    from a package index of your own"
        )
        raise ScaffoldError(text)
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - an extra

    environment = Environment(
        loader=PackageLoader("pexpolicy.cli", "template"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 - it writes Python and TOML; there is no HTML
    )

    def part(of: _Part, file: str) -> str:
        return environment.get_template(f"hooks/{of.hook}/{file}.jinja").render(plugin=of)

    settings = merged_tables([part(one, "settings.toml") for one in plugin.parts])
    facts = [environment.get_template(f"hooks/{one.hook}/facts.jinja") for one in plugin.parts]
    environment.globals.update(
        plugin=plugin,
        version=__version__,
        settings=settings,
        facts=[template.make_module({"plugin": plugin}) for template in facts],
    )
    names = [name for name in environment.list_templates() if name.startswith(_FILES)]
    files = {_path(name, plugin): environment.get_template(name).render() for name in names}
    source = f"src/{plugin.package}"
    if len(plugin.parts) == 1:
        (only,) = plugin.parts
        files[f"{source}/__init__.py"] = part(only, "plugin.py")
        files["tests/test_plugin.py"] = part(only, "test_plugin.py")
    else:
        for one in plugin.parts:
            files[f"{source}/{one.hook}.py"] = part(one, "plugin.py")
            files[f"tests/test_{one.hook}.py"] = part(one, "test_plugin.py")
    return files


def merged_tables(texts: Iterable[str]) -> str:
    """Return TOML texts as one; the keys of equal tables are together."""
    tables: dict[str, list[str]] = {}
    for text in texts:
        header = ""
        for line in text.splitlines():
            if line.startswith("["):
                header = line
            elif line:
                tables.setdefault(header, []).append(line)
    headers = sorted(tables, key=lambda header: header.strip("[]"))
    return "\n\n".join("\n".join([header, *tables[header]]) for header in headers) + "\n"


_FILES = "package/"


def _path(template: str, plugin: NewPlugin) -> str:
    return template.removeprefix(_FILES).removesuffix(".jinja").replace("PACKAGE", plugin.package)


def next_steps(folder: Path) -> tuple[str, str, str]:
    """Return the shell commands that install the package, test it, and serve with it."""
    return (
        f"cd {shlex.quote(str(folder))} && python -m pip install -e '.[dev]'",
        "python -m pytest",
        "pexpolicy serve",
    )
