"""Schema of the server: its addresses, credentials, networks, certificate, limits and log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field
from yarl import URL

from pexpolicy.config.schema import MAX_BUDGET, Port, Table
from pexpolicy.models.subnets import read_subnet


def checked_host(host: str) -> str:
    """Return an address to listen on; raises ``ValueError`` with what to write."""
    if re.fullmatch(r"\[[0-9A-Fa-f:.]+\]", host):
        return host[1:-1]
    has_port = re.fullmatch(r"[^:\[\]]*:\d+|\[.*\]:\d+|::1?:\d{4,5}", host)
    if has_port or not re.fullmatch(r"[^\s/*\[\]]+", host):
        raise ValueError(
            "is an address alone, without a port, such as 127.0.0.1; every address is 0.0.0.0 or ::"
        )
    return host


Host = Annotated[str, AfterValidator(checked_host)]


_PLAIN_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*")
"""A path that every HTTP client sends as it is written."""


def _base_path(path: str) -> str:
    if not _PLAIN_PATH.fullmatch(path) or not {".", ".."}.isdisjoint(path.split("/")):
        raise ValueError(
            "begin with a slash and do not end with one, as in /api/pexip; between slashes "
            "are ASCII letters, digits and -._~!$&'()*+,;=:@, and no part is . or .."
        )
    if "/policy/v1" in path:
        raise ValueError("leave out /policy/v1, which Infinity adds to the URL of its profile")
    return path


class ServerTable(Table):
    """``[server]``: listening address, processes and time limits."""

    host: Host = "127.0.0.1"
    """Address to listen on. Any address but loopback needs `[auth]`, or `allow_anonymous = true`.
    """
    port: Port = 8000
    """Port; 0 selects a free one, which the first line on standard error names."""
    base_path: Annotated[str, AfterValidator(_base_path)] = ""
    """Path in front of `/policy/v1`, such as `/api/pexip`; the URL of Infinity's policy profile
    then ends in it. `/livez` and `/readyz` stay at the root.
    """
    budget: float = Field(4.0, gt=0.0, le=MAX_BUDGET)
    """Seconds for all plugins together in one call. Infinity waits 5 seconds, and the reply takes
    time to arrive.
    """
    allow_anonymous: bool = False
    """Serve without `[auth]` on an address that others can reach. They can then request PINs."""
    workers: int = Field(1, ge=1, le=64)
    """Number of worker processes, to use several cores; see
    [operations.md](operations.md#more-than-one-core)
    """
    state_dir: str | None = None
    """Folder in which the server keeps what must outlive it; it is created with mode 0700. Default:
    that of systemd (`StateDirectory=`), else `state` next to this file.
    """
    drain_delay: float = Field(0.0, ge=0.0, le=60.0)
    """Time in which calls are still accepted after SIGTERM, while `/readyz` reports `draining`.
    Set it to the time that a load balancer takes to notice. See
    [operations.md](operations.md#stopping)
    """


class AdminTable(Table):
    """``[admin]``: the admin listener, in addition to the one for nodes."""

    enabled: bool = True
    """If false, the admin listener and metrics are disabled."""
    host: Host = "127.0.0.1"
    """Address to listen on. Any address but loopback needs a token."""
    port: Port = 9107
    """Port; 0 selects a free one, which the first line on standard error names. A port in use is a
    warning; that of `server.port` is an error.
    """
    tls: bool = False
    """Serve it with the certificate of `[tls]`, without asking clients for theirs."""
    token_env: str | None = None
    """Environment variable that holds the token for `/status`, `/metrics` and the
    [routes of plugins](plugins/hooks.md#routes), sent as `Authorization: Bearer TOKEN`. `check`
    warns below 16 characters.
    """
    token_file: str | None = None
    """Path of a file that holds it."""


Level = Literal["debug", "info", "warning", "error"]


class LogTable(Table):
    """``[log]``: lines of plugins and libraries on standard error."""

    level: Level = "info"
    """The lowest level of [lines](plugins/logging.md) of plugins and libraries; lines of the
    server itself are always written.
    """


class TracingTable(Table):
    """``[tracing]``: spans by OTLP over HTTP; the variables ``OTEL_*`` say the rest."""

    endpoint: str = Field("http://127.0.0.1:4318/v1/traces", pattern=r"^https?://[^\s]+$")
    """The collector, by OTLP over HTTP."""


def _server_url(written: str) -> str:
    url = URL(written)
    if url.scheme not in ("http", "https") or url != url.origin():
        raise ValueError("write the URL of an admin listener, as in https://p1.example.com:9107")
    return str(url)


class FleetTable(Table):
    """``[fleet]``: what the servers of one policy share."""

    servers: list[Annotated[str, AfterValidator(_server_url)]] = Field([], max_length=100)
    """URLs of the admin listeners of all servers of the policy, this one included."""
    token_file: str | None = None
    """Path of a file with their token. Default: that of `[admin]`."""
    ca_file: str | None = None
    """Path of the authorities, in PEM, that signed their certificates. Default: those of the
    system.
    """
    key_file: str | None = None
    """Path of a file with a secret of at least 16 bytes, the same on all servers. With it the
    `policy_hash` of servers can be compared where plugins have secrets. Without it each server
    makes a key of its own.
    """


def _database_url(written: str) -> str:
    if not re.match(r"postgres(ql)?://[^/]*/[^/?]", written):
        raise ValueError("is no URL of PostgreSQL: write postgresql://USER@HOST/DATABASE")
    url = URL(written)
    if url.raw_password is not None or "password" in url.query:
        raise ValueError("credentials are never in this file: write password_file")
    return written


DatabaseUrl = Annotated[str, AfterValidator(_database_url)]


class SharedTable(Table):
    """``[shared]``: what worker processes, and several servers, share."""

    driver: Literal["sqlite", "postgresql"] = "sqlite"
    """`"sqlite"` is a file in the state folder, for one server. Several servers share a database
    of PostgreSQL.
    """
    url: DatabaseUrl | None = None
    """`postgresql://USER@HOST:PORT/DATABASE`. The connection is encrypted and verified except on
    loopback and sockets; `?sslmode=`, `?sslrootcert=` and others are those of PostgreSQL.
    """
    password_file: str | None = None
    """Path of a file with the password for PostgreSQL."""
    timeout: float = Field(0.25, gt=0.0, le=MAX_BUDGET)
    """Seconds after which an operation is abandoned; `on_error` of the plugin decides then."""

    def _misfits(self) -> Iterator[str]:
        if self.driver == "postgresql" and self.url is None:
            yield 'driver = "postgresql" needs url'
        if self.driver == "sqlite" and (self.url or self.password_file):
            yield 'url and password_file are for driver = "postgresql"'


def _bundle_url(written: str) -> str:
    url = URL(written)
    needed = {"file": url.path, "s3": url.host and url.path.strip("/")}
    if not needed.get(url.scheme, url.scheme in ("http", "https") and url.host):
        raise ValueError(
            "write a whole URL, as in https://www.example.com/stable.tar.gz, s3://bucket/x.tar.gz "
            "or file:/srv/x.tar.gz"
        )
    if url.user is not None or url.password is not None:
        raise ValueError("credentials are never in this file: write them into ~/.netrc")
    return written


class BundleTable(Table):
    """``[bundle]``: the tables that decide and their files, fetched as a signed archive."""

    url: Annotated[str, AfterValidator(_bundle_url)]
    """Where the bundle is: `https:`, `http:`, `s3:` or `file:`."""
    public_keys: list[str] = Field(min_length=1, max_length=16)
    """Paths of Ed25519 keys in PEM: a bundle has to be signed with one of them. They are read at
    each fetch.
    """
    folder: str | None = None
    """Folder for the last bundles; it is created with mode 0700. Default: `bundles` in
    `server.state_dir`.
    """
    every: float = Field(15.0, ge=1.0, le=86_400.0)
    """Seconds between two looks at the URL, at most."""

    @property
    def source(self) -> str:
        """The URL without its query, which may hold a signature of an object storage."""
        return str(URL(self.url).with_query(None))


class LimitsTable(Table):
    """``[limits]``: the limit of connections."""

    connections: int | None = Field(None, ge=1, le=100_000)
    """Maximum number of open connections of one process. Unset: as many as its limit of open files
    allows, at most 10,000.
    """


def _user(name: str) -> str:
    if re.search(r"[:\x00-\x1f]", name):
        raise ValueError("must not contain a colon or control characters")
    return name


User = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_user)]


def _network(text: str) -> str:
    if text.strip().lower() in ("any", "all", "*"):
        raise ValueError("leave the list out for every address, or write 0.0.0.0/0 and ::/0")
    read_subnet(text)
    return text


Network = Annotated[str, AfterValidator(_network)]


class PasswordTable(Table):
    """The source of the password of a user, or of its hash."""

    password_hash: str | None = None
    """Scrypt hash of the password, as `pexpolicy hash-password` prints it."""
    password_hash_file: str | None = None
    """Path of a file that holds the hash."""
    password_env: str | None = None
    """Name of an environment variable that holds the password. `check` warns below 8 characters."""
    password_file: str | None = None
    """Path of a file that holds it; a line end after it is ignored."""

    @property
    def places(self) -> int:
        """Number of the four keys that are set."""
        hashes = (self.password_hash, self.password_hash_file)
        return sum(place is not None for place in hashes) + self.secret("password").places

    def _misfits(self) -> Iterator[str]:
        if getattr(self, "user", None) is not None and self.places != 1:
            yield (
                "write one of password_hash, password_hash_file (a path), password_env (a "
                "variable) or password_file (a path)"
            )


class CredentialTable(PasswordTable):
    """``[[auth.credentials]]``: one user, and the source of the password or its hash."""

    user: User
    """User name; needs exactly one of the next four."""


class AuthTable(PasswordTable):
    """``[auth]``: the credentials that Infinity's policy profiles send."""

    user: User | None = None
    """User name; needs exactly one source of its password."""
    credentials: list[CredentialTable] = Field([], max_length=16)

    @property
    def users(self) -> dict[tuple[str | int, ...], AuthTable | CredentialTable]:
        """The tables of all users by their keys."""
        found: dict[tuple[str | int, ...], AuthTable | CredentialTable] = {
            ("auth", "credentials", number): one for number, one in enumerate(self.credentials)
        }
        return found if self.user is None else {("auth",): self, **found}

    def _misfits(self) -> Iterator[str]:
        yield from super()._misfits()
        if self.user is None and (self.places or not self.credentials):
            yield "name the user that the password belongs to, or write [[auth.credentials]]"


class EventSourceTable(Table):
    """``[events.NAME]``: one platform of several, whose events have the source NAME."""

    user: User
    """User name of the event sink in Infinity."""
    password_env: str | None = None
    """Name of an environment variable that holds its password."""
    password_file: str | None = None
    """Path of a file that holds it; a line end after it is ignored."""


class EventsTable(EventSourceTable):
    """``[events]``: what the event sinks of Infinity send to the node listener."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, EventSourceTable]
    _further: ClassVar = (EventSourceTable,)
    """The types of the keys that are not named here."""

    user: User | None = None  # type: ignore[assignment] # platforms have theirs
    """User name of the event sink in Infinity, whose events have the source `default`."""
    max_body_mb: int = Field(64, ge=1, le=1024)
    """Megabytes of one message. A longer one is read to its end and dropped, and the source is then
    stale. Ten times that is refused.
    """

    @property
    def sources(self) -> dict[str, EventSourceTable | EventsTable]:
        """The platforms by name."""
        own = {"default": self} if self.user is not None else {}
        return own | (self.__pydantic_extra__ or {})

    def _misfits(self) -> Iterator[str]:
        if not self.sources or (self.user is None and self.secret("password").places):
            yield "name the user that event sinks send, or write [events.NAME]"
        for name, table in self.sources.items():
            where = "" if table is self else f"[events.{name}]: "
            if not table.secret("password").places:
                yield f"{where}write {table.secret('password').keys}"
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", name):
                yield f"{where}a name has up to 32 letters, digits, _ and -"
        users = [table.user for table in self.sources.values()]
        if len(set(users)) < len(users):
            yield "has two sources of one user: give each platform its own"


class ApiTable(Table):
    """``[api]``: the listener for other programs, such as booking systems. Plugins answer it."""

    host: Host = "127.0.0.1"
    """Address to listen on. Any address but loopback needs `[tls]`, whose certificate is used
    wherever there is one; clients are not asked for theirs.
    """
    port: Port = 8443
    """Port; 0 selects a free one, which the first line on standard error names. A port in use is a
    warning.
    """
    networks: list[Network] = []
    """Networks that may connect, as in `access.networks`. Without any, every address may."""


class AccessTable(Table):
    """``[access]``: the networks that may connect, and the trusted proxies."""

    networks: list[Network] = []
    """Networks that may connect, such as `10.44.0.0/16`, `2001:db8::/32` or a single address.
    Without any, every address may.
    """
    trusted_proxies: list[Network] = []
    """Networks of proxies whose `X-Forwarded-For` is trusted: the address of the client in it then
    has to be in `access.networks`.
    """


class TlsTable(Table):
    """``[tls]``: the certificate of the server, and the verification of clients."""

    certificate: str
    """Path of the certificate in PEM, followed by the intermediate ones."""
    key: str
    """Path of its key in PEM."""
    key_password_env: str | None = None
    """Environment variable with the password of the key, if it has one."""
    key_password_file: str | None = None
    """The same from a file."""
    client_ca: str | None = None
    """Path of the authorities, in PEM, that sign the certificates of clients."""
    client_crl: str | None = None
    """Path of the revocation lists, in PEM, for certificates of clients. Without `tls.client_ca`
    it is an error. See [access.md](access.md#client-certificates)
    """
    client_certificate: Literal["required", "optional"] = "required"
    """Whether a client has to present one. Without `tls.client_ca` it is an error."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest accepted version of TLS."""
