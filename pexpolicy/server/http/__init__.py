"""HTTP: connections, protocol, application and replies."""
