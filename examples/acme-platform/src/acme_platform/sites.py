"""The rooms of a site: one instance of the plugin for each site, with settings of every kind."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

from pexpolicy import (
    AliasMap,
    AliasSet,
    Conference,
    ConfigWarning,
    Key,
    Plugin,
    PluginSettings,
    Service,
    ServiceConfigurationRequest,
)
from pexpolicy.fields import FieldsOf


class Settings(PluginSettings):
    """``[plugins.NAME.settings]`` of each site."""

    networks: tuple[IPv4Network | IPv6Network, ...]
    """Addresses of the site."""

    look: FieldsOf[Conference] = FieldsOf(Conference)
    """Fields that all rooms of the site have."""

    rooms: AliasMap[FieldsOf[Service]]
    """The rooms by alias, each with fields of its own."""

    locked_for: AliasSet = AliasSet()
    """Callers who find the rooms locked."""


class Site(Plugin[Settings]):
    """Leads callers from the networks of a site to its rooms; leaves others to the next plugin."""

    def __init__(self, settings: Settings) -> None:
        """Make the decision of each room once."""
        super().__init__(settings)
        self._rooms: AliasMap[Service] = AliasMap(
            (alias, fields.decision(**{"service_tag": "site", **settings.look, **fields}))
            for alias, fields in settings.rooms.items()
        )

    async def service_configuration(self, request: ServiceConfigurationRequest) -> Service | None:
        """Return the room of the alias."""
        room = self._rooms.get(request.local_alias)
        if room is None or not self._is_here(request.remote_address):
            return None
        if isinstance(room, Conference) and request.remote_alias in self.settings.locked_for:
            return room.replace(locked=True, reason="locked for this caller")
        return room

    def _is_here(self, address: str | None) -> bool:
        return address is not None and any(
            ip_address(address) in network for network in self.settings.networks
        )

    def static_decisions(self) -> list[tuple[Key, Service]]:
        """Return the rooms, each with its key as it was written."""
        return [(("rooms", alias.raw), room) for alias, room in self._rooms.items()]

    def config_warnings(self) -> list[ConfigWarning]:
        """Warn of a site that has no addresses."""
        if self.settings.networks:
            return []
        return [ConfigWarning(("networks",), "is empty: nobody calls from this site")]
