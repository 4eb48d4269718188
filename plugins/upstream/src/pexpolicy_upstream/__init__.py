"""Other policy servers: which of them is asked for a call, and what becomes of its reply."""

from pexpolicy_upstream.plugin import Upstream

__all__ = ["Upstream"]
