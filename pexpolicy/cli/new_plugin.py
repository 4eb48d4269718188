"""Command ``pexpolicy new-plugin``: a package with a plugin, from templates.

``template/package`` has one template for each file of the package, ``template/hooks`` those that
differ between hooks.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from importlib.resources import files
from keyword import iskeyword
from pathlib import Path
from string import Template

import click

from pexpolicy import __version__
from pexpolicy.cli.common import examples, refuse
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.plugins.discovery import RESERVED, installed

MAX_NAME = 24
"""Characters; the lines of the templates are laid out for names up to this length."""
TEMPLATES = Path(str(files("pexpolicy.cli"))) / "template"


@click.command(
    "new-plugin",
    epilog=examples(
        "pexpolicy new-plugin blocklist",
        "pexpolicy new-plugin branches --hook media_location",
    ),
)
@click.argument("name")
@click.option(
    "--hook",
    type=click.Choice(list(ENDPOINTS)),
    default="service_configuration",
    show_default=True,
    help="The request that the plugin answers.",
)
def new_plugin(name: str, hook: str) -> None:
    """Write a package with a working, tested plugin NAME into a new folder."""
    plugin = plugin_name(name)
    content = render(plugin, hook)
    folder = next(iter(content)).partition("/")[0]
    Path(folder).mkdir()
    for file, text in content.items():
        path = Path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    click.echo(f"{folder} contains the plugin {plugin}. To try it:\n")
    click.echo(f"  cd {shlex.quote(folder)} && python -m pip install -e '.[dev]'")
    click.echo("  python -m pytest\n  pexpolicy serve")


def plugin_name(written: str) -> str:
    """Return a plugin name in its normal form; exit with 2 for an invalid one.

    ``Front-Desk``, ``front.desk`` and ``pexpolicy-front-desk`` are all ``front_desk``.
    """
    lowered = re.sub(r"^pexpolicy[-_.\s]+", "", written.strip().lower())
    name = re.sub(r"[-_.\s]+", "_", lowered).strip("_")
    if not re.fullmatch(rf"[a-z][a-z0-9_]{{0,{MAX_NAME - 1}}}", name) or iskeyword(name):
        refuse(
            f"{written!r} is not a plugin name: write a letter, then letters, digits and "
            f"underscores, {MAX_NAME} characters at most, and no keyword of Python"
        )
    if name in RESERVED:
        refuse(f"{name!r} is reserved: decided_by has it where no plugin decides; choose another")
    if (taken := installed().get(name)) is not None:
        refuse(f"{name!r} is taken: {taken.distribution} {taken.version} is installed")
    return name


def render(name: str, hook: str) -> dict[str, str]:
    """Return the files of the package of a plugin by path, in a folder for all of them."""
    folder = f"pexpolicy-{name.replace('_', '-')}"
    own, package = TEMPLATES / "hooks" / hook, TEMPLATES / "package"
    facts = tomllib.loads((own / "facts.toml").read_text(encoding="utf-8"))
    rows = (f"| `{key}` | {meaning} |" for key, meaning in facts["settings"].items())
    names = {
        "name": name,
        "package": folder.replace("-", "_"),
        "class_name": f"{name.title().replace('_', '')}Plugin",
        "distribution": folder,
        "version": __version__,
        "hook": hook,
        "about": facts["about"],
        "request": facts["request"],
        "rows": "\n".join(rows),
        "dependencies": "".join(f'    "{one}",\n' for one in facts["dependencies"]),
    }

    def filled(template: Path) -> str:
        return Template(template.read_text(encoding="utf-8")).substitute(names)

    names["settings"] = filled(own / "settings.toml.part")
    found = {}
    for root in (package, own):
        for template in root.rglob("*.template"):
            file = str(template.relative_to(root)).replace("PACKAGE", names["package"])
            found[f"{folder}/{file.removesuffix('.template')}"] = filled(template)
    return found
