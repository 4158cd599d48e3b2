"""The command for the machine itself: doctor."""

from __future__ import annotations

import click

from flowprep.cli.command import Command
from flowprep.cli.output import print_result, print_tree


@click.command(cls=Command)
def doctor() -> None:
    """Describe this machine for the extraction of flow, and print what to install.

    It shows the processor and the width of its vectors, GPUs, their driver and compiler (NVRTC), OpenCV, and
    the formats that FFmpeg decodes. A GPU is optional: without one, engine cpu computes the flow.
    """
    from flowprep.doctor import examine

    report = examine()

    def show() -> None:
        print_tree({name: value for name, value in report.to_dict().items() if name != "advice"})
        for line in report.advice or ["nothing is missing"]:
            click.echo(f"- {line}")

    print_result(report, show)
