"""The plugin webhook with a receiver that is killed, frozen and slow."""
