"""Settings of ``avatars``, and the templates of names and URLs in them."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pexpolicy import Alias, ConfigPath, PluginSettings, Secret, Source
from pexpolicy.config.outgoing import HttpSettings, WebAddress, whole_url
from pexpolicy.rows import RowSource

PLACEHOLDERS = ("alias", "user", "host")
MAX_LENGTH = 256
"""Characters of a part. Longer ones are no alias of a person."""


class Template:
    """Text with ``{alias}``, ``{user}`` and ``{host}``; raises ``ValueError`` for others."""

    def __init__(self, text: str) -> None:
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError:
            raise ValueError(f"has a single brace: the placeholders are {known}") from None
        self.names = frozenset(name for _, name, _, _ in parts if name is not None)
        wrong = [name for name in self.names if name not in PLACEHOLDERS]
        if wrong or any(spec or conversion for _, _, spec, conversion in parts):
            written = wrong[0] if wrong else "a format"
            raise ValueError(f"has {{{written}}}: the placeholders are {known}")
        if not self.names:
            raise ValueError(f"leads everybody to the same picture: write one of {known} in it")
        self.text = text

    def fill(self, alias: Alias, quote: Callable[[str], str] = str) -> str | None:
        """Return the text with the parts of an alias, each quoted.

        ``None`` if a part is missing, or could mean something else than a name.
        """
        parts = {"alias": str(alias), "user": alias.user, "host": alias.host}
        if not all(is_plain(parts[name]) for name in self.names):
            return None
        return self.text.format_map({name: quote(part) for name, part in parts.items()})


def is_plain(part: str) -> bool:
    """Return whether a part of an alias is a name: no path, no control character, not too long."""
    if not 0 < len(part) <= MAX_LENGTH or part.strip(".") == "":
        return False
    return not any(c in "/\\" or unicodedata.category(c)[0] == "C" for c in part)


SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp")
COLORS = ("#1f6feb", "#8250df", "#bf3989", "#cf222e", "#bc4c00", "#9a6700", "#1a7f37", "#57606a")


def _file_name(written: str) -> str:
    Template(written)
    if "/" in written or "\\" in written:
        raise ValueError("is the name of a file, without folders: write one such as {user}.jpg")
    if not written.lower().endswith(SUFFIXES):
        raise ValueError(f"must end with {', '.join(SUFFIXES)}")
    return written


def _picture_url(written: str) -> str:
    Template(written)
    origin = written.partition("://")[2].partition("/")[0].partition("?")[0]
    if "{" in origin:
        raise ValueError("the alias may be in the path or query of the URL, and not in the host")
    if "#" in written:
        raise ValueError("what follows a # is not sent: leave it out")
    whole_url(written.format_map(dict.fromkeys(PLACEHOLDERS, "x")))
    return written


class WebSettings(HttpSettings):
    """``[plugins.avatars.settings.http]``: a web server. Times in seconds."""

    url: Annotated[str, AfterValidator(_picture_url)]
    """Template of the URLs of the pictures."""


class GraphSettings(PluginSettings):
    """``[plugins.avatars.settings.graph]``: Microsoft Graph. Times in seconds."""

    tenant: str = Field(min_length=1)
    """Id or domain of the tenant."""
    client_id: str = Field(min_length=1)
    """Id of the application."""
    secret: Secret
    """The client secret of the application."""
    user: Annotated[str, AfterValidator(lambda written: Template(written).text)] = "{alias}"
    """Template of the name of a user, such as ``{user}@example.onmicrosoft.com``."""
    match: Literal["userPrincipalName", "mail"] = "userPrincipalName"
    """The property of the user that has this name."""
    timeout: float = Field(3.0, gt=0.0, le=60.0)
    """For one request, the connection included."""
    ca_file: ConfigPath | None = None
    """Certificates to trust instead of those of the system."""
    authority: WebAddress = "https://login.microsoftonline.com"
    """Server of the tokens; national clouds have others."""
    endpoint: WebAddress = "https://graph.microsoft.com/v1.0"
    """Server of the photos."""


class InitialsSettings(PluginSettings):
    """``[plugins.avatars.settings.initials]``: letters for people without a picture."""

    colors: list[str] = Field(default_factory=lambda: list(COLORS), min_length=1)
    """The colours; each alias has always the same one."""
    font: ConfigPath | None = None
    """File of a TrueType or OpenType font; that of Pillow has the letters A to Z."""


class AvatarsSettings(PluginSettings):
    """``[plugins.avatars.settings]``. Times in seconds."""

    folder: ConfigPath | None = None
    """Folder with pictures."""
    files: list[Annotated[str, AfterValidator(_file_name)]] = Field(
        default_factory=lambda: ["{alias}.jpg", "{alias}.png", "{user}.jpg", "{user}.png"],
        min_length=1,
    )
    """Templates of the names of the files, in the order in which they are tried."""
    source: Source[RowSource] | None = None
    """NAME of a table ``[sources.NAME]``, such as an LDAP directory."""
    query: str | None = Field(None, min_length=1)
    """What the source is asked; its first column with a value is the picture, in Base64."""
    http: WebSettings | None = None
    """A web server with pictures."""
    graph: GraphSettings | None = None
    """Microsoft Graph."""
    initials: InitialsSettings | None = None
    """Initials for people without a picture; an empty table is enough."""
    domains: list[str] = []
    """Domains of the people with pictures; all when none is named."""
    max_age: float = Field(900.0, ge=0.0, le=86_400.0)
    """Age at which a picture, or its absence, is looked up again."""
    cache_mb: int = Field(64, ge=1, le=10_000)
    """Memory of a process for pictures in MiB."""

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        given = (self.folder, self.source, self.http, self.graph, self.initials)
        if all(source is None for source in given):
            msg = "there are no pictures: write folder, source, or a table http, graph or initials"
            raise ValueError(msg)
        if (self.source is None) != (self.query is None):
            missing = "source" if self.source is None else "query"
            raise ValueError(f"{missing} is missing: source and query go together")
        if self.folder is None and "files" in self.model_fields_set:
            raise ValueError("files belongs to a folder")
        return self
