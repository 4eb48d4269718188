"""The banner: a theme for whatever room another plugin has chosen."""

from __future__ import annotations

from pexpolicy import (
    UNSET,
    Conference,
    Continue,
    Lecture,
    Plugin,
    PluginSettings,
    Redirect,
    Reject,
    Service,
    ServiceConfigurationRequest,
)


class Settings(PluginSettings):
    """The keys of ``[plugins.acme_banner.settings]``."""

    theme: str
    company: str = "acme.example"


class Banner(Plugin[Settings]):
    """Shows the banner in each room without a theme, and keeps descriptions inside the company."""

    async def adjust_service_configuration(
        self,
        request: ServiceConfigurationRequest,
        decision: Service | Continue | Reject | Redirect,
    ) -> Service | None:
        """Return the room with the banner; leave everything else as it is."""
        if not isinstance(decision, Conference | Lecture):
            return None
        if decision.ivr_theme_name is UNSET:
            decision = decision.replace(ivr_theme_name=self.settings.theme)
        if request.remote_alias.host != self.settings.company:
            decision = decision.replace(description=UNSET)
        return decision
