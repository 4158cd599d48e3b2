"""`python -m trainer.cli`, where the `trainer` command is not on the path."""

from trainer.cli import main

main()
