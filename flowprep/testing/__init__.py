"""Public test suites for extensions of flowprep. They need pytest."""
