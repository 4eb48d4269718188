"""The tables of the configuration file, and what may stand in each."""
