"""The command ``pexpolicy audit``: reading, filtering and verifying audit files."""
