"""The base classes of requests, decisions and outcomes, and the validation of decisions."""
