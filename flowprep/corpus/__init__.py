"""The corpus on disk: shards, records and the index over them. FORMAT.md is the contract."""
