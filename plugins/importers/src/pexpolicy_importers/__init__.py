"""Import and export of rules, rooms and domains: the commands ``import`` and ``export``."""
