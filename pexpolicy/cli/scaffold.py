"""Scaffold of a plugin package, rendered from Jinja templates.

``template/package`` has one template for each file of the package, ``template/hooks`` the parts
that differ between hooks.
"""

from __future__ import annotations

import builtins
import re
import shlex
import unicodedata
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
    """Name and hook of a new plugin, from which the names of its files derive."""

    name: str
    """As in the configuration: ``[plugins.NAME]``."""
    hook: str

    @property
    def distribution(self) -> str:
        """Return the name of the distribution and of its folder."""
        return f"pexpolicy-{self.name.replace('_', '-')}"

    @property
    def package(self) -> str:
        """Return the name of the import package."""
        return f"pexpolicy_{self.name}"

    @property
    def class_name(self) -> str:
        """Return the name of the plugin class, distinct from all names that the package uses."""
        name = "".join(word.capitalize() for word in self.name.split("_"))
        taken = name in api.__all__ or name in _USED or hasattr(builtins, name)
        return f"{name}Plugin" if taken else name


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
    environment.globals.update(plugin=plugin, version=__version__)
    names = [name for name in environment.list_templates() if name.startswith(_FILES)]
    return {_path(name, plugin): environment.get_template(name).render() for name in names}


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
