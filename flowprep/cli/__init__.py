"""The command line: parse, call, print. No logic lives here."""

from __future__ import annotations

import errno
import logging
import sys
from typing import Any

import click

from flowprep import __version__
from flowprep.cli import convert, doctor, flow, inspect, run, view
from flowprep.cli import extract as make
from flowprep.cli.output import Fault, WrongUse, in_words
from flowprep.errors import FlowprepError, UsageError, VideoMissing

# As `flowprep --help` lists them.
SECTIONS = {
    "Make a corpus": [make.samples, make.plan, make.extract, run.run_task, run.retry],
    "Look after it": [inspect.status, inspect.log, inspect.verify, inspect.info, inspect.index],
    "In and out": [convert.export, convert.import_, convert.merge, convert.subset, convert.repack],
    "Look at it": [view.view, view.report],
    "Flow itself": [flow.flow, flow.bench, flow.tune],
    "This machine": [doctor.doctor],
}


class _Group(click.Group):
    """Turns the errors that flowprep raises on purpose into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (UsageError, VideoMissing) as exc:
            raise WrongUse(str(exc)) from exc
        except (FlowprepError, OSError) as exc:
            if getattr(exc, "errno", None) == errno.EPIPE:  # `flowprep info | head`: click ends quietly
                raise
            raise Fault(in_words(exc) if isinstance(exc, OSError) else str(exc)) from exc

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by what they are for."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(str(c.name), c.get_short_help_str(120)) for c in commands])


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="flowprep")
@click.option("-v", "--verbose", count=True, help="Say more of what is done; twice for debugging.")
def main(verbose: int) -> None:
    """Videos to a corpus of frames and TV-L1 optical flow, as JPEG in HDF5 shards.

    \b
    flowprep samples clips                    a folder of small clips to try it on
    flowprep extract clips --out corpus       frames and flow of every video; run it again to resume
    flowprep verify corpus                    every checksum and every image
    flowprep view corpus VIDEO -o sheet.png   look at one
    flowprep flow A.png B.png -o flow.png     the flow of a single pair
    flowprep bench                            how fast this machine is

    Exit codes: 0 done, 1 a fault, 2 wrong use, 3 done but some videos failed (status names them).
    """
    level = [logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)]
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)


for commands in SECTIONS.values():
    for command in commands:
        main.add_command(command)
