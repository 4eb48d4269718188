"""JSON Schema of requests, decisions and replies."""
