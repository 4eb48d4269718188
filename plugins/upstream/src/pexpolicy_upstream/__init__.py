"""Plugin ``upstream``: forwards calls to other policy servers."""

from pexpolicy_upstream.plugin import Upstream

__all__ = ["Upstream"]
