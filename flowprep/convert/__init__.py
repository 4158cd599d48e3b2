"""Conversion between corpora and other layouts, and from corpus to corpus. Images are copied as stored."""
