"""Clips of a corpus as NumPy arrays, for training loops of any library."""
