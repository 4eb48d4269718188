"""Plugin that always abstains."""

from pexpolicy import ServiceConfigurationRequest, hookimpl


class Abstain:
    """Plugin that abstains from every service configuration call without suspending."""

    def __init__(self, settings: object) -> None:
        self._settings = settings

    @hookimpl
    async def service_configuration(self, request: ServiceConfigurationRequest) -> None:
        """Abstain."""
