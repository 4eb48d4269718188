"""Live counts and limits while all is killed, frozen or flooded, and what they cost."""
