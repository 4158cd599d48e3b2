"""The command line: parse, call, print. No logic lives here."""

from __future__ import annotations

import click

from flowprep import __version__
from flowprep.cli import bench, convert, doctor, extract, flow, inspect, run, view
from flowprep.cli.command import Program

# In the order of `flowprep --help`.
SECTIONS = {
    "Make a corpus": [extract.samples, extract.plan, extract.extract, run.run_task, run.retry],
    "Check a corpus": [inspect.status, inspect.log, inspect.verify, inspect.info, inspect.index],
    "Convert a corpus": [
        convert.export,
        convert.import_,
        convert.merge,
        convert.subset,
        convert.repack,
    ],
    "Draw a corpus": [view.view, view.report],
    "Flow itself": [flow.flow, flow.tune, bench.bench],
    "This machine": [doctor.doctor],
}


@click.group(
    cls=Program,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="flowprep")
def main() -> None:
    """Turn videos into a corpus: frames and TV-L1 optical flow, as JPEG in HDF5 shards.

    \b
    flowprep samples -o clips              write small clips
    flowprep extract clips -o corpus       extract, or resume
    flowprep verify corpus                 check every image
    flowprep view corpus VIDEO -o a.png    draw one video
    flowprep flow A.png B.png -o flow.png  flow of one pair
    flowprep bench flow                    time this machine

    Exit codes: 0 done, 1 an error, 2 wrong use, 3 done but some videos failed (`flowprep status` names them).
    """
