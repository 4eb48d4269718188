"""A new configuration for a running server: watched, built aside, checked, and put in force."""
