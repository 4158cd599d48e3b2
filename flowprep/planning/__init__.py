"""From inputs to the tasks of a corpus."""
