"""Settings that look up by alias, and mistakes that a type checker finds."""

from pexpolicy import (
    Alias,
    AliasMap,
    AliasSet,
    Conference,
    PluginSettings,
    Service,
    ServiceConfigurationRequest,
)
from pexpolicy.fields import FieldsOf


class Settings(PluginSettings):
    vips: AliasSet = AliasSet()
    open: AliasMap[tuple[int, int]] = AliasMap()
    look: FieldsOf[Conference] = FieldsOf(Conference)
    rooms: AliasMap[FieldsOf[Service]] = AliasMap()


def fine(settings: Settings, request: ServiceConfigurationRequest) -> bool:
    hours: tuple[int, int] | None = settings.open.get(request.local_alias)
    default: tuple[int, int] = settings.open.get("garden@example.com", (8, 16))
    written: list[str] = [alias.raw for alias in settings.open]
    there: bool = "bob@example.com" in settings.vips or request.remote_alias in settings.vips
    key: tuple[int, int] = settings.open["garden@example.com"]
    aliases: list[Alias] = sorted(settings.vips)
    return there and bool(hours) and default < key and len(written) < len(aliases)


def rooms(settings: Settings) -> list[Service]:
    room: Conference = settings.look.decision(name="a", service_tag="", reason="b")
    return [room, *(fields.decision(service_tag="") for fields in settings.rooms.values())]


def wrong(settings: Settings) -> None:
    settings.look.decision(reason=4711)  # error: reason|int
    hours: int | None = settings.open.get("garden@example.com")  # error: int
    settings.open["garden@example.com"] = (8, 16)  # error: __setitem__|indexed
    settings.opne  # error: opne
    settings.open.get(4711)  # error: get|4711
