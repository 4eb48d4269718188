"""Plugin ``sql``: decisions by the rows of SQL queries, one for each endpoint."""

from pexpolicy_sql.plugin import SqlQueries

__all__ = ["SqlQueries"]
