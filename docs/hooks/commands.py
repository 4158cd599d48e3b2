"""Prepares the help texts of both programs for the generated reference of commands."""

from __future__ import annotations

import inspect
import re
from enum import Enum
from typing import Any

import click

import flowprep.cli
import trainer.cli


def on_pre_build(**_: Any) -> None:
    """Adapt the commands that mkdocs-click reads in this process."""
    for program in (flowprep.cli.main, trainer.cli.main):
        adapt(program)


def adapt(command: click.Command, parent: click.Context | None = None) -> None:
    """Make preformatted paragraphs code blocks, and leave out defaults that are not set."""
    context = click.Context(command, parent=parent, **command.context_settings)
    if command.help:
        command.help = preformatted_as_code(inspect.cleandoc(command.help))
    for parameter in command.get_params(context):
        if isinstance(parameter.default, Enum):  # click's mark of no default
            parameter.default = None
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            adapt(inner, context)


def preformatted_as_code(text: str) -> str:
    """The paragraphs that begin with a line `\\b` as Markdown code blocks."""
    return re.sub(r"(?m)^\x08\n((?:.+\n?)+)", r"```text\n\1\n```\n", text)
