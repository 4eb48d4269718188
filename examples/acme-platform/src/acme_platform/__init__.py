"""The package of a company that uses the whole platform of pexpolicy."""
