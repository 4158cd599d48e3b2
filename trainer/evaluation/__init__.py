"""Scores of videos, and their fusion."""
