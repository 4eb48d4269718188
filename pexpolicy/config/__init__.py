"""The configuration file: schema, loader, secrets and problems."""
