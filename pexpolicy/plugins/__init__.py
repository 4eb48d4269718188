"""Discovery, construction and checks of plugins."""
