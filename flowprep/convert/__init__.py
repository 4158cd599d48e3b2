"""Corpora to and from other layouts, and from other corpora: pictures are copied byte by byte."""
