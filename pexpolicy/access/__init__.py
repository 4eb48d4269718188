"""Access control: connections, networks, certificates, credentials and refusals."""
