"""Local policy scripts of Pexip Infinity: a runner, checks, and a plugin that decides by them."""
