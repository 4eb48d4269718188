"""Files of a plugin: reading, tracking, caching, and what changed in them."""

from pexpolicy.background.refreshed import CacheFile
from pexpolicy.config.files import read_file, track_file
from pexpolicy.config.plugin_settings import WrittenFolder
from pexpolicy.plugins.binding import named_changes

__all__ = ["CacheFile", "WrittenFolder", "named_changes", "read_file", "track_file"]
