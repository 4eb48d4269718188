"""``pexpolicy init``: a first configuration."""
