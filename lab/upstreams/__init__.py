"""Policy servers to be asked by the plugin ``upstream``: sound ones, and every kind of broken."""
