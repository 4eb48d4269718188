"""People from elsewhere: marked in the conference, and named in the log of the server."""

from __future__ import annotations

from pydantic import Field

from pexpolicy import (
    ParticipantProperties,
    ParticipantPropertiesRequest,
    Plugin,
    PluginSettings,
    get_logger,
)

log = get_logger()


class Settings(PluginSettings):
    """``[plugins.acme_visitors.settings]``."""

    domain: str
    """The domain of our own people."""

    suffix: str = Field(" (visitor)", min_length=1, max_length=50)
    """Text after the name of a visitor."""


class Visitors(Plugin[Settings]):
    """Adds a suffix to the names of visitors; our own people are left to the next plugin."""

    async def participant_properties(
        self, request: ParticipantPropertiesRequest
    ) -> ParticipantProperties | None:
        """Mark a visitor who has a name."""
        if request.remote_alias.host == self.settings.domain.lower():
            log.debug("one of our own people", domain=request.remote_alias.host)
            return None
        name, suffix = request.remote_display_name, self.settings.suffix
        if not name:
            log.warning("a visitor without a name", domain=request.remote_alias.host)
            return None
        if name.endswith(suffix):
            return None
        log.info("a visitor", domain=request.remote_alias.host)
        return ParticipantProperties(remote_display_name=name[: 250 - len(suffix)] + suffix)
