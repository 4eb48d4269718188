"""The index of the console with millions of audit lines, and killed while it is built."""
