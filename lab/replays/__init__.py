"""Generated configurations and traffic: what a replay says, and what both would answer live."""
