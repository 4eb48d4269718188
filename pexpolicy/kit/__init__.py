"""What ``pexpolicy.testing`` and ``pexpolicy test`` are made of; nothing else imports it."""
