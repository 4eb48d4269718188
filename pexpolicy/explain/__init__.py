"""A dry run of one request: reading it from a record, answering it, showing each step."""
