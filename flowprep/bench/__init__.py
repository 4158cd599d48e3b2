"""Measurements: speed and error of flow, size and error of quantisation, speed of reading."""
