"""Plugin ``avatars``: answers with pictures of people."""

from pexpolicy_avatars.plugin import Avatars

__all__ = ["Avatars"]
