"""Commands for the machine itself."""

from __future__ import annotations

import json

import click

from flowprep.cli.options import json_option
from flowprep.cli.output import print_facts


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what this machine has for extracting flow, and what to install for what it lacks.

    Processor and width of its vectors, GPUs, their driver and compiler (NVRTC), OpenCV, and what FFmpeg
    decodes. A GPU is not needed: without one, flow is computed by engine cpu.
    """
    from flowprep.doctor import examine

    found = examine()
    if as_json:
        click.echo(json.dumps(found))
        return
    advice = found.pop("advice")
    print_facts(found)
    for line in advice or ["nothing is missing"]:
        click.echo(f"- {line}")
