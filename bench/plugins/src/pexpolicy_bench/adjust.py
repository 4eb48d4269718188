"""Plugin that is asked to adjust every decision of a service."""

from pexpolicy import Conference, Decision, PluginSettings, hookimpl


class Adjust:
    """Plugin that gives every room a theme, or leaves each as it is."""

    class Settings(PluginSettings):
        """Whether it changes anything."""

        changes: bool

    def __init__(self, settings: Settings) -> None:
        self._changes = settings.changes

    @hookimpl
    async def adjust_service_configuration(self, decision: Decision) -> Decision | None:
        """Return the room with a theme."""
        if not self._changes or not isinstance(decision, Conference):
            return None
        return decision.replace(ivr_theme_name="Company")
