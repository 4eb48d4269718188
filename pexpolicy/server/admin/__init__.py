"""The admin listener: health, status and metrics, beside the one that nodes call."""
