"""The networks, one file per published system."""
