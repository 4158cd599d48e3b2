"""The corpus on disk: plan, records, shards and index. FORMAT.md describes the format."""
