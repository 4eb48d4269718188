"""Plugin ``webhook``: sends each decision to an HTTP server as a CloudEvent."""

from pexpolicy_webhook.plugin import Webhook

__all__ = ["Webhook"]
