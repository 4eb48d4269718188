"""The web console of pexpolicy, a process that reads the audit and the admin listener."""
