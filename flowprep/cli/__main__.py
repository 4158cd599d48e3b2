"""The program `flowprep`; also `python -m flowprep.cli`, where the command is not on the path."""

from flowprep.system.signals import run_program


def main() -> None:
    """Run the program."""
    run_program("flowprep.cli.program")


if __name__ == "__main__":
    main()
