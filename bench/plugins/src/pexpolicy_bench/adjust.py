"""Plugin that adjusts every decision of a service."""

from pexpolicy import Conference, Decision, hookimpl


class Adjust:
    """Plugin that gives every room a theme."""

    def __init__(self, settings: object) -> None:
        self._settings = settings

    @hookimpl
    async def adjust_service_configuration(self, decision: Decision) -> Decision | None:
        """Return the room with a theme."""
        if not isinstance(decision, Conference):
            return None
        return decision.replace(ivr_theme_name="Company")
