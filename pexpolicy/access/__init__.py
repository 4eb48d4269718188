"""Who may ask: connections, networks, certificates, credentials, and what is refused."""
