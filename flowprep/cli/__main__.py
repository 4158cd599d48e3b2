"""`python -m flowprep.cli`, where the `flowprep` command is not on the path."""

from flowprep.cli import main

main()
