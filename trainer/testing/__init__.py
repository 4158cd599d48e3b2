"""Public test suites for extensions of trainer. They need pytest."""
