"""Recipes: TOML files that state a network, its input and its training."""
