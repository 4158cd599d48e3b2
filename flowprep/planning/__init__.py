"""Planning: from the inputs of a command to the tasks of a corpus."""
