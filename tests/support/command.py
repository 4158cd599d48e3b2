"""The command `trainer`, called in this process."""

from click.testing import CliRunner

from trainer.cli import main


def call(*args):
    """Run the command; an unexpected error is raised."""
    result = CliRunner().invoke(main, [str(a) for a in args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
