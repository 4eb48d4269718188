"""Dry runs of the configuration on the disk, in a process that the console starts and ends."""
