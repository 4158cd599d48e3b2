"""The classes of commands: as those of flowprep, with the trainer's log on stderr and its errors."""

from __future__ import annotations

import logging
import os
from typing import Any

import click

from flowprep.cli import command
from flowprep.cli.output import QUIET, CommandFailed, Stopped
from trainer.errors import LOADER_DIED

LIBRARIES = ("torch", "tensorboard", "sklearn", "tomli")  # installed by flowprep[train]


class Command(command.Command):
    """A command that prints the trainer's log on stderr."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        set_up_log(quiet=bool(ctx.meta.get(QUIET)), verbosity=ctx.meta.get(command.VERBOSITY, 0))
        return super().invoke(ctx)


class Program(command.Program):
    """The program `trainer`. Errors that are raised on purpose become one line and an exit code."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except Stopped:
            raise
        except CommandFailed as exc:
            raise CommandFailed(one_line(exc.message)) from exc.__cause__
        except RuntimeError as exc:
            if not (message := loader_death(exc)):
                raise
            raise CommandFailed(one_line(message)) from exc
        except ModuleNotFoundError as exc:
            if exc.name not in LIBRARIES:
                raise
            raise CommandFailed(
                f"{exc.name} is not installed; run pip install '.[train]' in the clone"
            ) from exc


def loader_death(exc: BaseException) -> str:
    """The message about a loader process that died, if an error follows from it; else "".

    torch raises it in a signal handler, wherever the program is.
    """
    messages = (str(cause) for cause in command.causes(exc) if isinstance(cause, RuntimeError))
    return next((message for message in messages if LOADER_DIED in message), "")


def set_up_log(*, quiet: bool, verbosity: int) -> None:
    """Print the trainer's log on stderr: warnings, and without `quiet` information."""
    handler = command.LogHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    # Of the processes that torchrun starts, only the first prints.
    silent = "TORCHELASTIC_RUN_ID" in os.environ and os.environ["RANK"] != "0"
    normal = logging.WARNING if quiet else logging.DEBUG if verbosity else logging.INFO
    for name in ("trainer", "flowprep.planning"):  # the readers of lists warn, too
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(logging.ERROR if silent else normal)


def one_line(message: str) -> str:
    """A message as one line. An error of a loader process loses torch's account of it."""
    message = message.strip()
    if "Original Traceback" in message:
        message = message.splitlines()[-1].partition(": ")[2]
    return " ".join(message.split())
