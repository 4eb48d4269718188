"""Plugin class of ``registrations``, with devices in TOML, in a CSV file, or from a source."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, SecretStr, model_validator
from typing_extensions import override

from pexpolicy import (
    Alias,
    ConfigWarning,
    Continue,
    Credentials,
    DataUnavailableError,
    DecisionError,
    Plugin,
    Problem,
    RegistrationAliasRequest,
    Reject,
    SettingsError,
    metrics,
)
from pexpolicy.config.csv_tables import TableFile, TableRow
from pexpolicy.files import named_changes
from pexpolicy.models.alias import why_never_called
from pexpolicy.rows import RowSettings, RowSnapshot, listed_rows, read_rows, report_left_out

Text = Annotated[str, Field(min_length=1, max_length=250)]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=250)]


class Device(TableRow):
    """A device that may register."""

    alias: Text
    """The alias of the device, compared in its normal form."""

    username: Text | None = None
    """User name that the device must present; set together with the password."""

    password: Secret | None = None
    """Unset: Infinity decides on the credentials."""

    protocols: frozenset[Literal["webrtc", "sip", "h323"]] = frozenset()
    """Protocols that the device may use; empty: any."""

    sso: bool = False
    """Whether the device may use single sign-on."""

    @model_validator(mode="after")
    def _has_both_or_neither(self) -> Self:
        if (self.username is None) != (self.password is None):
            missing = "username" if self.username is None else "password"
            raise ValueError(f"{missing} is missing: a device needs both or neither")
        return self


class Settings(RowSettings):
    """``[plugins.registrations.settings]``. Rows of a source have the columns of the CSV file."""

    csv: TableFile | None = None
    """A file with a device in each line."""

    devices: list[Device] = []
    """Devices in the configuration, with the columns of the file."""

    otherwise: Literal["reject", "abstain"] = "reject"
    """Reject all other aliases, or leave them to the next plugin."""

    burst: Annotated[int, Field(ge=0)] = 20
    """Unknown aliases from one address in a minute after which answers to it are delayed; 0: never
    delay.
    """

    delay: Annotated[float, Field(gt=0, le=3)] = 0.5
    """Seconds; must be shorter than the timeout of the plugin."""


WINDOW_S = 60.0
MAX_ADDRESSES = 10_000
"""Number of addresses that are remembered, the most recent ones."""


class Bursts:
    """Counts the unknown aliases of each address within a minute."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def exceeds(self, address: str) -> bool:
        """Count an unknown alias of an address; return whether it has had too many."""
        if not self._limit:
            return False
        now = self._clock()
        began, count = self._windows.pop(address, (now, 0))
        if now - began >= WINDOW_S:
            began, count = now, 0
        self._windows[address] = (began, count + 1)
        if len(self._windows) > MAX_ADDRESSES:
            self._windows.popitem(last=False)
        return count >= self._limit


MAX_DELAYED = 200
"""Number of answers that are delayed at a time; further ones are given at once."""
_KNOWN = Continue(reason="the device is listed; Infinity checks its credentials")
_UNKNOWN = Reject(reason="no device has this alias")
_WRONG_PROTOCOL = Reject(reason="the device is not listed for this protocol")
_NO_SSO = Reject(reason="the device is not listed for single sign-on")
_SSO_ONLY = Reject(reason="the device is listed for single sign-on only")
_UNKNOWN_ALIASES = metrics.counter(
    "unknown_aliases_total", "Registrations of unknown aliases.", ["answer"]
)


class _Answers(NamedTuple):
    """The answers for one device, made when the policy was built."""

    credentials: Credentials | Continue | Reject
    sso: Continue | Reject
    protocols: frozenset[str]


class Registrations(Plugin[Settings]):
    """Answers with the credentials of listed devices, and rejects or leaves other aliases."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the devices; raise ``SettingsError`` with all that is wrong with them."""
        self._rejects = settings.otherwise == "reject"
        self._delay = settings.delay
        self._bursts = Bursts(settings.burst, clock)
        self._delayed = 0
        self._devices: dict[str, _Answers] = {}
        self._warnings: list[ConfigWarning] = []
        problems: list[Problem] = []
        written = listed_rows("devices", settings.devices, settings.csv, Device, problems)
        for key, device in written:
            if (wrong := _add(self._devices, device)) is not None:
                problems.append(Problem((*key, *wrong.key), wrong.text))
            elif why := why_never_called(Alias(device.alias)):
                text = f"{device.alias!r} {why}, so no device registers it"
                self._warnings.append(ConfigWarning((*key, "alias"), text))
        self._snapshot: RowSnapshot[dict[str, _Answers]] | None = None
        try:
            self._snapshot = settings.snapshot(self._convert, "devices", [["alias"]])
        except SettingsError as error:
            problems += error.problems
        if settings.burst and settings.delay >= settings.plugin_timeout:
            text = (
                "is not shorter than the timeout of the plugin, which is "
                f"{settings.plugin_timeout:g} s: a delayed answer would come too late"
            )
            problems.append(Problem(("delay",), text))
        if problems:
            raise SettingsError(problems=problems)

    def _convert(self, rows: list[dict[str, Any]]) -> dict[str, _Answers]:
        """Return the answers for the devices in rows; those with an error are left out and logged.

        Raises ``ValueError`` if no row is right.
        """
        problems: list[str] = []
        table: dict[str, _Answers] = {}
        for number, device in read_rows(_for_each_alias(rows), Device, problems):
            if (wrong := _add(table, device)) is not None:
                problems.append(f"row {number}: {wrong}")
        report_left_out("devices", problems, is_empty=not table)
        return table

    @override
    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Fetch the devices of the source, and keep them up to date."""
        return self._snapshot or nullcontext()

    @override
    async def registration_alias(
        self, request: RegistrationAliasRequest
    ) -> Credentials | Continue | Reject | None:
        """Return the answer for a listed device; delay that for bursts of other aliases."""
        device = self._devices.get(request.alias)
        if device is None and self._snapshot is not None:
            device = self._snapshot.value.get(request.alias)
            request.annotate(source_age=round(self._snapshot.age, 1))
        if device is None:
            return await self._unknown(request.remote_address or "")
        if device.protocols and request.protocol not in device.protocols:
            return _WRONG_PROTOCOL
        return device.sso if request.auth_type == "sso" else device.credentials

    async def _unknown(self, address: str) -> Reject | None:
        slowed = self._bursts.exceeds(address) and self._delayed < MAX_DELAYED
        _UNKNOWN_ALIASES.inc(answer="delayed" if slowed else "at once")
        if slowed:
            self._delayed += 1
            try:
                await asyncio.sleep(self._delay)
            finally:
                self._delayed -= 1
        return _UNKNOWN if self._rejects else None

    @override
    def config_warnings(self) -> Iterable[ConfigWarning]:
        """Warn of an empty list, and of aliases that no device has."""
        yield from self._warnings
        if not self._devices and self._snapshot is None:
            text = "no device can register" if self._rejects else "it never answers"
            yield ConfigWarning((), f"lists no device: {text}")

    @override
    def changes_since(self, previous: Registrations) -> Iterable[str]:
        """Name the devices that were added, removed and changed."""
        return named_changes(previous._devices, self._devices)

    @override
    def status(self) -> Mapping[str, object]:
        """Return the number of devices, and of answers that are being delayed."""
        status: dict[str, object] = {"devices": len(self._devices), "delayed": self._delayed}
        if self._snapshot is not None:
            with suppress(DataUnavailableError):
                status["devices_of_source"] = len(self._snapshot.value)
        return status


def _for_each_alias(rows: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Yield a row for each alias of a device, such as the values of an LDAP attribute."""
    for row in rows:
        aliases = row.get("alias")
        for alias in aliases if isinstance(aliases, list) else [aliases]:
            yield {**row, "alias": alias}


def _add(table: dict[str, _Answers], device: Device) -> Problem | None:
    """Add the answers for a device, or return why it has none."""
    alias = Alias(device.alias)
    if not alias.user:
        return Problem(("alias",), 'is not an alias; write one such as "desk@example.com"')
    if alias in table:
        return Problem(("alias",), f"there is a device with the alias {alias} already")
    try:
        table[str(alias)] = _answers(device)
    except DecisionError as error:
        return Problem(error.refusal.key, error.refusal.rule)
    return None


def _answers(device: Device) -> _Answers:
    credentials: Credentials | Continue | Reject = _SSO_ONLY if device.sso else _KNOWN
    if device.username is not None and device.password is not None:
        password = device.password.get_secret_value()
        credentials = Credentials(username=device.username, password=password)
    sso = _KNOWN if device.sso or device.password is None else _NO_SSO
    return _Answers(credentials, sso, device.protocols)
