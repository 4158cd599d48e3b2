"""One task, from its videos to a published shard and record."""
