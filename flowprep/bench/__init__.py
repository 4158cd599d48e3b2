"""How fast and how true this machine is, and what it has: nothing here changes a corpus."""
