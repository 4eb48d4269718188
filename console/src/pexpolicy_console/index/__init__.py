"""The index of the audit: finds lines by what is in them."""
