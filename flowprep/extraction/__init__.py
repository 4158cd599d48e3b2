"""Extraction: from the videos of a task to its published shard and record."""
