"""Plugin ``acme_billing``: notes the cost centre of each call, counts, and keeps a ledger."""

from __future__ import annotations

from collections.abc import Sequence

from pexpolicy import (
    Alias,
    ConfigPath,
    Outcome,
    Plugin,
    PluginSettings,
    Privacy,
    ServiceConfigurationRequest,
    metrics,
)

CALLS = metrics.counter("calls_total", "Calls to rooms with a cost centre.", ["cost_centre"])


class BillingSettings(PluginSettings):
    """``[plugins.acme_billing.settings]``."""

    cost_centres: dict[str, str]
    """Cost centre of a room, by its alias."""
    ledger: ConfigPath
    """File to which the audit lines of these calls are appended."""


class Billing(Plugin[BillingSettings]):
    """Decides nothing: the rooms belong to other plugins."""

    def __init__(self, settings: BillingSettings) -> None:
        super().__init__(settings)
        self._centres = {Alias(alias): name for alias, name in settings.cost_centres.items()}

    async def service_configuration(self, request: ServiceConfigurationRequest) -> None:
        """Add the cost centre and the caller to the audit line."""
        centre = self._centres.get(request.local_alias)
        if centre is not None:
            request.annotate(cost_centre=centre)
            request.annotate(Privacy.PERSONAL, caller=request.remote_display_name)
            CALLS.inc(cost_centre=centre)

    def on_decisions(self, outcomes: Sequence[Outcome]) -> None:
        """Append the lines of calls with a cost centre to the ledger."""
        lines = [
            outcome.audit_line
            for outcome in outcomes
            if isinstance(outcome.request, ServiceConfigurationRequest)
            and outcome.request.local_alias in self._centres
        ]
        with self.settings.ledger.open("ab") as ledger:
            ledger.writelines(line + b"\n" for line in lines)
