"""HTML pages about a corpus."""
