"""Driver ``ldap``: the entries of a directory, such as OpenLDAP or Active Directory."""

from __future__ import annotations

import asyncio
import base64
import re
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from typing_extensions import override
from yarl import URL

from pexpolicy import ConfigPath, Secret, SettingsError
from pexpolicy.config.outgoing import is_loopback, revealed, tls_context
from pexpolicy_sources.data_source import (
    Answer,
    DataSource,
    DataSourceSettings,
    QueryError,
    Row,
    SourceError,
    SourceUnavailableError,
    Value,
    one_line,
    text_of,
    unknown_parameter,
)

BINARY = frozenset(
    (
        *("audio", "jpegphoto", "objectguid", "objectsid", "photo", "thumbnaillogo"),
        *("thumbnailphoto", "usercertificate", "usersmimecertificate"),
    )
)
"""Attributes whose values are never text, even if they look like it."""
DN = "dn"
"""Written like an attribute, it is the name of the entry."""
_RANGE = ";range="
"""In the name of an attribute of which an entry has a part of the values."""
_ITEM = re.compile(
    r"\((?:(?:[\w.;-]+(?::dn)?(?::[\w.-]+)?[~<>:]?|(?::dn)?:[\w.-]+:)=)(?:\\[0-9A-Fa-f]{2}|\{\w+\}|[^()\\{}\0\1])+\)",
    re.ASCII,
)
"""A comparison: what is compared, and a value in which only ``*`` has a meaning of its own."""
_GROUP = re.compile("\\((?:[&|](?:\0\1*)+|!\0\1*)\\)")
"""Filters that are joined, each written as ``\\0\\1...`` already."""
_BLANKS = re.compile(r"(?<=\()\s+|(?<=[(&|!)])\s+(?=[()])")
_PARAMETER = re.compile(r"\{(\w+)\}", re.ASCII)
_ATTRIBUTE = re.compile(r"(?:(\w+)=)?([A-Za-z0-9][\w.;-]*)", re.ASCII).fullmatch
_ESCAPED = str.maketrans({character: f"\\{ord(character):02x}" for character in "\\*()\0"})


class LdapQuery:
    """A filter and attributes, as ``ldapsearch`` takes them: ``(mail={alias}) name=cn``.

    A parameter is a part of a value, and escaped: it changes neither the filter nor an attribute.
    ``COLUMN=ATTRIBUTE`` names a column; without attributes a row has all of an entry. Raises
    ``ValueError``.
    """

    def __init__(self, written: str, parameters: Collection[str]) -> None:
        written = _BLANKS.sub("", written.strip())
        end = _filter_end(written)
        # Alternately text and the name of a parameter.
        self._parts = _PARAMETER.split(written[:end])
        for name in self._parts[1::2]:
            if name not in parameters:
                raise unknown_parameter("{{{}}}", name, parameters)
        self._columns = dict(_columns(written[end:].split()))
        self.columns = list(self._columns)
        named = [name for name in dict.fromkeys(self._columns.values()) if name.lower() != DN]
        self.attributes: Sequence[str] = named or (["1.1"] if self._columns else ["*"])
        """The attributes to ask for; ``1.1`` is none."""

    def fill(self, values: Mapping[str, Value]) -> str | None:
        """Return the filter; ``None`` where a value is empty, which could match everything."""
        found = (values[name] for name in self._parts[1::2])
        texts = [str(one).upper() if isinstance(one, bool) else text_of(one) for one in found]
        if not all(texts):
            return None
        parts = list(self._parts)
        parts[1::2] = [text.translate(_ESCAPED) for text in texts]
        return "".join(parts)

    def row(self, dn: str, values: Mapping[str, Sequence[bytes]]) -> Row:
        """Return the columns of an entry: text, a list of several values, binary ones as Base64.

        Attributes without a value are left out. Raises ``QueryError`` for one of which the server
        has sent a part, as Active Directory does from 1,500 values on.
        """
        found = {name.lower(): value for name, value in values.items()}
        for name in found:
            if _RANGE in name:
                attribute = name.partition(";")[0]
                raise QueryError(f"{attribute} has more values than the server sends at once")
        row: Row = {}
        for column, attribute in (self._columns or {name: name for name in found}).items():
            if attribute.lower() == DN:
                row[column] = dn
            elif given := found.get(name := attribute.lower()) or found.get(f"{name};binary"):
                plain = [_json(name, value) for value in given]
                row[column] = plain[0] if len(plain) == 1 else plain
        return row


def _filter_end(text: str) -> int:
    """Return where the filter at the beginning of a text ends; raises ``ValueError``."""
    shape, found = _ITEM.subn(_shape, text)
    while found:
        shape, found = _GROUP.subn(_shape, shape)
    if (whole := re.match("\0\1*", shape)) is None:
        at = next(iter(re.findall(r"\([^()\0\1]*\)?", shape)), text)
        raise ValueError(
            f'has no filter at {at[:20]!r}: write one such as "(mail={{alias}}) name=cn"; in a '
            "value write \\28, \\29, \\7b, \\7d"
        )
    return whole.end()


def _shape(found: re.Match[str]) -> str:
    return "\0" + "\1" * (len(found[0]) - 1)


def _columns(written: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the name of each column, and its attribute."""
    for text in written:
        match = _ATTRIBUTE(text)
        if match is None:
            raise ValueError(f"has {text!r} after the filter: write ATTRIBUTE or COLUMN=ATTRIBUTE")
        yield match[1] or match[2].lower(), match[2]


def _json(attribute: str, value: bytes) -> str:
    if attribute.partition(";")[0] not in BINARY:
        with suppress(UnicodeDecodeError):
            return value.decode()
    return base64.b64encode(value).decode()


IDLE_S = 60.0
"""Seconds after which an unused connection is not used again: a firewall may have dropped it."""
POLL_S = 0.5
"""Seconds between two looks at whether the pool was closed."""
KEEPALIVE_S = 30
"""Seconds until a peer that is silent is probed; it is given up after three probes."""
TLS_1_2 = 0x303

Entry = tuple[str, dict[str, list[bytes]]]
"""The DN and the attributes of an entry."""


def _server(written: str) -> str:
    try:
        url = URL(written)
        host, _ = url.raw_host, url.explicit_port
    except ValueError:
        host, url = None, URL()
    if url.raw_user is not None or url.raw_password is not None:
        raise ValueError("credentials are never in this file: write user and password_file")
    if (
        url.scheme not in ("ldap", "ldaps")
        or not host
        or url.path.strip("/")
        or url.raw_query_string
    ):
        belongs = "; the DN belongs in base" if "=" in url.path else ""
        raise ValueError(f"is not an LDAP server: write ldaps://HOST or ldap://HOST{belongs}")
    return written.rstrip("/")


class LdapSettings(DataSourceSettings):
    """``[sources.NAME]`` with ``driver = "ldap"``. Times in seconds."""

    url: Annotated[
        list[Annotated[str, AfterValidator(_server)]],
        BeforeValidator(lambda written: [written] if isinstance(written, str) else written),
        Field(min_length=1),
    ]
    """The server, or several with the same content, in the order in which they are asked."""
    base: str
    """The DN of the entry below which is searched."""
    scope: Literal["subtree", "onelevel"] = "subtree"
    """All entries below it, or the next level only."""
    user: str | None = None
    """The DN of the account; without one the search is anonymous."""
    password: Secret | None = None
    """Its password."""
    tls: bool = True
    """StartTLS for ``ldap://``."""
    ca_file: ConfigPath | None = None
    """Certificates to trust instead of those of the system."""
    page_size: int = Field(500, ge=1, le=10_000)
    """Entries that a snapshot asks for at once."""
    pool_size: int = Field(4, ge=2, le=100)
    """Connections that each process keeps."""

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        has_password = self.password is not None
        if has_password != (self.user is not None):
            raise ValueError("user and a password belong together: write user and password_file")
        for url in self.url:
            is_plain = url.startswith("ldap:") and not self.tls
            if has_password and is_plain and not is_loopback(URL(url).host):
                raise ValueError(f"{url} would get the password unencrypted: leave tls out")
        return self


class Search(NamedTuple):
    """What is searched for."""

    text: str
    """The filter, complete and escaped."""
    attributes: Sequence[str]
    is_paged: bool


class _Connection(NamedTuple):
    handle: Any
    server: int
    used_at: float

    def drop(self) -> None:
        """Close it; it may be broken already."""
        with suppress(Exception):
            self.handle.unbind_ext_s()


class LdapPool:
    """Connections to the first server that answers; when it fails, to the next one.

    Searches block, and may run in several threads. Raises ``ImportError`` without python-ldap.
    """

    def __init__(self, settings: LdapSettings, password: str | None) -> None:
        self._ldap: Any = import_module("ldap")
        self._paged: Any = import_module("ldap.controls").SimplePagedResultsControl
        names = ("BUSY", "CONNECT_ERROR", "SERVER_DOWN", "TIMELIMIT_EXCEEDED", "TIMEOUT")
        self._down = tuple(getattr(self._ldap, name) for name in (*names, "UNAVAILABLE"))
        self._settings = settings
        self._password = password
        self._server = 0
        self._idle: deque[_Connection] = deque()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def search(self, search: Search, limit: float) -> list[Entry]:
        """Return the entries that match; raises ``SourceError``.

        ``limit`` is in seconds; of several servers each has an equal part of what is left.
        """
        end = time.monotonic() + limit
        count = len(self._settings.url)
        problem = SourceUnavailableError("no answer in time")
        connection = self._reusable()
        for left in range(count + (connection is not None), 0, -1):
            now = time.monotonic()
            if now >= end or self._closed.is_set():
                break
            part = now + (end - now) / min(left, count)
            server = self._server if connection is None else connection.server
            try:
                return self._entries(connection or self._connect(server, part), search, part)
            except self._down as error:
                if connection is None or isinstance(error, self._ldap.TIMEOUT):
                    with self._lock:
                        if self._server == server:
                            self._server = (server + 1) % count
                problem = SourceUnavailableError(self._reason(server, error))
            connection = None
        raise problem

    def close(self) -> None:
        """Close all connections without waiting; searches that run end soon."""
        self._closed.set()
        while self._idle:
            self._idle.pop().drop()

    def _reusable(self) -> _Connection | None:
        """Return an open connection; close those of servers that failed, or unused for long."""
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                is_new = time.monotonic() - connection.used_at <= IDLE_S
                if is_new and connection.server == self._server:
                    return connection
                connection.drop()
        return None

    @contextmanager
    def _dropping(
        self, connection: _Connection, refusal: type[SourceError], settings: str
    ) -> Iterator[None]:
        """Close the connection after an error; raise ``refusal`` for one of the directory, with the
        ``settings`` that lead to it.
        """
        try:
            yield
        except BaseException as error:
            # An answer may still come on it.
            connection.drop()
            if isinstance(error, self._ldap.LDAPError) and not isinstance(error, self._down):
                text = f"{self._reason(connection.server, error)}; check {settings}"
                raise refusal(text) from None
            raise

    def _connect(self, server: int, end: float) -> _Connection:
        ldap, settings = self._ldap, self._settings
        url = settings.url[server]
        left = max(end - time.monotonic(), 0.001)
        handle = ldap.initialize(url)
        connection = _Connection(handle, server, time.monotonic())
        is_secure = url.startswith("ldaps:")
        options: dict[str, Any] = {
            "REFERRALS": 0,  # their servers would get the password
            "NETWORK_TIMEOUT": left,
            "TIMEOUT": left,
            "X_KEEPALIVE_IDLE": KEEPALIVE_S,
            "X_KEEPALIVE_INTERVAL": KEEPALIVE_S // 3,
            "X_KEEPALIVE_PROBES": 3,
        }
        if is_secure or settings.tls:
            options |= {"X_TLS_REQUIRE_CERT": ldap.OPT_X_TLS_DEMAND, "X_TLS_PROTOCOL_MIN": TLS_1_2}
            options |= {"X_TLS_CACERTFILE": str(settings.ca_file)} if settings.ca_file else {}
            options["X_TLS_NEWCTX"] = 0
        # Another server would refuse the password as well, and then lock the account.
        starting = "tls, which asks for StartTLS, or write ldaps:// in url"
        with self._dropping(connection, SourceUnavailableError, starting):
            for name, value in options.items():
                handle.set_option(getattr(ldap, f"OPT_{name}"), value)
            if settings.tls and not is_secure:
                handle.start_tls_s()
        if settings.user is not None:
            with self._dropping(connection, SourceUnavailableError, "user and its password"):
                self._wait(handle, handle.simple_bind(settings.user, self._password), end)
        return connection

    def _entries(self, connection: _Connection, search: Search, end: float) -> list[Entry]:
        settings, handle = self._settings, connection.handle
        scope = getattr(self._ldap, f"SCOPE_{settings.scope.upper()}")
        entries: list[Entry] = []
        cookie: bytes | None = b""
        with self._dropping(connection, QueryError, "base, scope and the query"):
            while cookie is not None:
                page = self._paged(False, settings.page_size, cookie)  # noqa: FBT003 - not critical
                number = handle.search_ext(
                    settings.base,
                    scope,
                    search.text,
                    list(search.attributes),
                    serverctrls=[page] if search.is_paged else None,
                )
                found, controls = self._wait(handle, number, end)
                # Without a DN it is a reference to another server.
                entries += (entry for entry in found if entry[0] is not None)
                pages = (c.cookie for c in controls if isinstance(c, self._paged))
                cookie = next(pages, None) or None
        self._idle.append(connection._replace(used_at=time.monotonic()))
        if self._closed.is_set():
            self.close()
        return entries

    def _wait(self, handle: Any, number: int, end: float) -> tuple[list[Any], list[Any]]:
        """Return the data and controls of a result; raises ``ldap.TIMEOUT``."""
        while (left := end - time.monotonic()) > 0 and not self._closed.is_set():
            try:
                result = handle.result4(number, all=1, timeout=min(left, POLL_S))
            except self._ldap.TIMEOUT:
                continue
            return result[1], result[3]
        raise self._ldap.TIMEOUT({"desc": "no answer in time"})

    def _reason(self, server: int, error: Any) -> str:
        """Return what a server said: libldap names neither the filter nor the password.

        A server may, and what is no server and sends back what it gets does.
        """
        told = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        said = ": ".join(str(told[key]) for key in ("desc", "info") if told.get(key)) or "failed"
        if self._password:
            said = said.replace(self._password, "***")
        return one_line(f"{self._settings.url[server]}: {said}")


class LdapSource(DataSource[LdapSettings, LdapQuery]):
    """A directory. A query is a filter with attributes, such as ``(mail={alias}) name=cn``."""

    Settings = LdapSettings

    def __init__(self, settings: LdapSettings) -> None:
        super().__init__(settings)
        tls_context(settings.ca_file)  # libldap says nothing useful about a file with an error
        self._password = revealed(settings.password)
        try:
            is_dn = import_module("ldap.dn").is_dn
        except ImportError as error:
            text = f"{error}: pip install 'pexpolicy-sources[ldap]'"
            raise SettingsError(text, key="driver") from None
        if not is_dn(settings.base):
            parts = ",".join(f"dc={part}" for part in settings.base.split("."))
            raise SettingsError(f"is not a DN: write it as in {parts}", key="base")
        self._pool: LdapPool | None = None
        self._threads: ThreadPoolExecutor
        self._one_snapshot = asyncio.Lock()

    @override
    async def open(self) -> None:
        self._pool = LdapPool(self.settings, self._password)
        self._threads = ThreadPoolExecutor(self.settings.pool_size, "source-ldap")

    @override
    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            pool.close()

    @override
    def prepare(self, query: str, parameters: Collection[str]) -> LdapQuery:
        return LdapQuery(query, parameters)

    def columns(self, query: str) -> Sequence[str]:
        """Return the names of the columns of a query, none if a row has all of an entry."""
        return LdapQuery(query, ()).columns

    @override
    async def fetch(
        self, query: LdapQuery, parameters: Mapping[str, Value], previous: Answer | None
    ) -> Answer:
        text = query.fill(parameters)
        if text is None:
            return Answer(())
        search = Search(text, query.attributes, is_paged=False)
        return await self._search(query, search, self.settings.timeout)

    @override
    async def fetch_all(self, query: LdapQuery, previous: Answer | None) -> Answer:
        search = Search(query.fill({}) or "", query.attributes, is_paged=True)
        # Calls need the other connections.
        async with self._one_snapshot:
            return await self._search(query, search, self.settings.snapshot_timeout)

    async def _search(self, query: LdapQuery, search: Search, limit: float) -> Answer:
        if self._pool is None:
            raise SourceUnavailableError("the source is not open")
        job = partial(_rows, self._pool, query, search, limit)
        return Answer(await asyncio.get_running_loop().run_in_executor(self._threads, job))


def _rows(pool: LdapPool, query: LdapQuery, search: Search, limit: float) -> list[Row]:
    return [query.row(*entry) for entry in pool.search(search, limit)]
