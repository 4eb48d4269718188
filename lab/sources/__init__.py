"""The source sql with a PostgreSQL server that is frozen and killed under load."""
