"""``pexpolicy doctor``: the configuration, its machine and its server in one list."""
