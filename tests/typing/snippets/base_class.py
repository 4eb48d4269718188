"""Subclasses of Plugin that a type checker accepts, and mistakes that it finds."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from pexpolicy import (
    Avatar,
    Conference,
    ConfigWarning,
    Continue,
    DirectoryEntry,
    DirectoryInformationRequest,
    Gateway,
    MediaLocation,
    MediaLocationRequest,
    Outcome,
    ParticipantAvatarRequest,
    ParticipantProperties,
    ParticipantPropertiesRequest,
    Plugin,
    PluginSettings,
    Reject,
    RegistrationAliasRequest,
    ServiceConfigurationRequest,
    hookimpl,
)
from typing_extensions import override


class Settings(PluginSettings):
    location: str
    every: float = 60.0


class Fine(Plugin[Settings]):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.every: float = settings.every

    @override
    async def service_configuration(
        self, request: ServiceConfigurationRequest
    ) -> Conference | Gateway | Reject | None:
        return None

    @override
    def participant_properties(
        self, request: ParticipantPropertiesRequest
    ) -> ParticipantProperties | Continue:
        return Continue()

    @override
    async def media_location(self, request: MediaLocationRequest) -> MediaLocation:
        return MediaLocation(location=self.settings.location)

    @override
    def participant_avatar(self, request: ParticipantAvatarRequest) -> Avatar | bytes | None:
        return b""

    @override
    async def directory_information(
        self, request: DirectoryInformationRequest
    ) -> list[DirectoryEntry]:
        return []

    @hookimpl
    def registration_alias(self, request: RegistrationAliasRequest) -> dict[str, str]:
        return {}

    @override
    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        yield

    @override
    async def on_decision(self, outcome: Outcome) -> None:
        """Observe."""

    @override
    def config_warnings(self) -> Iterable[ConfigWarning]:
        yield ConfigWarning((), "")

    @override
    async def status(self) -> Mapping[str, object]:
        return {"location": self.settings.location}

    @override
    def changes_since(self, previous: object) -> list[str]:
        return []

    @override
    def tracked_files(self) -> list[Path]:
        return []


class RejectsSometimes(Plugin):
    @property
    def can_reject(self) -> bool:
        return False


class WithoutSettings(Plugin):
    can_reject = False
    pexpolicy_api = 1

    @override
    async def media_location(self, request: MediaLocationRequest) -> None:
        return None


fine = Fine(Settings(location="Oslo"))
location: str = fine.settings.location
every: float = Fine(Fine.Settings(location="Oslo", every=5)).every
Fine(Fine.Settings(loction="Oslo"))  # error: loction


class Inherits(Fine):
    pass


Inherits(Inherits.Settings(location="Oslo"))


class Doors(Plugin[Settings]):
    Settings = Settings


class Misspelt(Plugin[Settings]):
    @override
    async def servce_configuration(self) -> None:  # error: servce_configuration
        return None


class WrongAnswer(Plugin[Settings]):
    @override
    async def media_location(self, request: MediaLocationRequest) -> Reject:  # error: media_location
        return Reject()


class WrongPlainAnswer(Plugin[Settings]):
    @override
    def service_configuration(  # error: service_configuration
        self, request: ServiceConfigurationRequest
    ) -> MediaLocation:
        return MediaLocation(location="Oslo")


class WrongRequest(Plugin[Settings]):
    @override
    async def service_configuration(self, request: MediaLocationRequest) -> None:  # error: service_configuration
        return None


class WrongNumberOfArguments(Plugin[Settings]):
    @override
    async def media_location(  # error: media_location
        self, request: MediaLocationRequest, alias: str
    ) -> None:
        return None


class WrongLifespan(Plugin[Settings]):
    @override
    async def lifespan(self) -> None:  # error: lifespan
        return None


class WrongWarnings(Plugin[Settings]):
    @override
    def config_warnings(self) -> list[str]:  # error: config_warnings
        return []


class WrongSetting(Plugin[Settings]):
    @override
    async def media_location(self, request: MediaLocationRequest) -> MediaLocation:
        return MediaLocation(location=self.settings.loction)  # error: loction


class NoSettings(Plugin[int]):  # error: int
    pass
