"""The listener for operators: health, status and metrics, beside the one that nodes call."""
