"""Driver ``ldap``: the entries of a directory, such as OpenLDAP or Active Directory."""

from __future__ import annotations

import asyncio
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

from pexpolicy import ConfigPath, SettingsError
from pexpolicy.config.outgoing import is_loopback, secret, tls_context
from pexpolicy_sources.data_source import DataSource, DataSourceSettings
from pexpolicy_sources.ldap_query import LdapQuery
from pexpolicy_sources.rows import (
    Answer,
    QueryError,
    Row,
    SourceError,
    SourceUnavailableError,
    Value,
    one_line,
)

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


def _as_list(written: object) -> object:
    return [written] if isinstance(written, str) else written


class LdapSettings(DataSourceSettings):
    """``[sources.NAME]`` with ``driver = "ldap"``. Times in seconds."""

    url: Annotated[
        list[Annotated[str, AfterValidator(_server)]],
        BeforeValidator(_as_list),
        Field(min_length=1),
    ]
    """The server, or several with the same content, in the order in which they are asked."""
    base: str
    """The DN of the entry below which is searched."""
    scope: Literal["subtree", "onelevel"] = "subtree"
    """All entries below it, or the next level only."""
    user: str | None = None
    """The DN of the account; without one the search is anonymous."""
    password_env: str | None = None
    """Variable with its password."""
    password_file: ConfigPath | None = None
    """File with that password."""
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
        has_password = bool(self.password_env or self.password_file)
        if has_password != (self.user is not None):
            msg = "user and a password belong together: write user and password_file"
            raise ValueError(msg)
        for url in self.url:
            is_plain = url.startswith("ldap:") and not self.tls
            if has_password and is_plain and not is_loopback(URL(url).host):
                msg = f"{url} would get the password unencrypted: leave tls out"
                raise ValueError(msg)
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
    def _dropping(self, connection: _Connection, refusal: type[SourceError]) -> Iterator[None]:
        """Close the connection after an error; raise ``refusal`` for one of the directory."""
        try:
            yield
        except BaseException as error:
            # An answer may still come on it.
            connection.drop()
            if isinstance(error, self._ldap.LDAPError) and not isinstance(error, self._down):
                raise refusal(self._reason(connection.server, error)) from None
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
        with self._dropping(connection, SourceUnavailableError):
            for name, value in options.items():
                handle.set_option(getattr(ldap, f"OPT_{name}"), value)
            if settings.tls and not is_secure:
                handle.start_tls_s()
            if settings.user is not None:
                self._wait(handle, handle.simple_bind(settings.user, self._password), end)
        return connection

    def _entries(self, connection: _Connection, search: Search, end: float) -> list[Entry]:
        settings, handle = self._settings, connection.handle
        scope = getattr(self._ldap, f"SCOPE_{settings.scope.upper()}")
        entries: list[Entry] = []
        cookie: bytes | None = b""
        with self._dropping(connection, QueryError):
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
        self._password = secret("password", settings.password_env, settings.password_file)
        try:
            import_module("ldap")
        except ImportError as error:
            text = f"needs the package {error.name}: pip install 'pexpolicy-sources[ldap]'"
            raise SettingsError(text, key=("driver",)) from None
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
