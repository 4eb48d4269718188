"""A plugin that is asked and has no opinion."""

from pexpolicy import ServiceConfigurationRequest, hookimpl


class Abstain:
    """Abstains from every service configuration call, without ever suspending."""

    def __init__(self, settings: object) -> None:
        self._settings = settings

    @hookimpl
    async def service_configuration(self, request: ServiceConfigurationRequest) -> None:
        """Abstain."""
