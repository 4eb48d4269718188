"""Login, sessions and roles."""
