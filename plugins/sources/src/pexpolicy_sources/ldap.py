"""Driver ``ldap``: the entries of a directory, such as OpenLDAP or Active Directory."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from typing_extensions import override
from yarl import URL

from pexpolicy import ConfigPath, SettingsError
from pexpolicy.config.outgoing import is_loopback, secret, tls_context
from pexpolicy_sources.data_source import DataSource, DataSourceSettings
from pexpolicy_sources.errors import SourceUnavailableError
from pexpolicy_sources.ldap_pool import LdapPool, Search
from pexpolicy_sources.ldap_query import LdapQuery
from pexpolicy_sources.rows import Answer, Row, Value


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
