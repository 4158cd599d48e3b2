"""Training a network from a recipe."""
