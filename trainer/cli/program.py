"""The command `trainer`: it parses arguments, calls a function and prints the result.

Each command imports what it needs, so that `--help` and wrong use answer at once.
"""

from __future__ import annotations

import click

from trainer.cli import evaluate, inspect, predict, split, train
from trainer.cli.command import Program

# In the order of `trainer --help`.
SECTIONS = {
    "Train": [split.split, train.train],
    "Evaluate": [evaluate.evaluate, evaluate.fuse, evaluate.scores],
    "Report": [inspect.report, inspect.compare],
    "Use a trained network": [predict.predict, predict.export],
    "Recipes and networks": [inspect.recipe, inspect.models, inspect.bench],
}


@click.group(
    cls=Program,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="flowprep")
def main() -> None:
    """Train, evaluate and fuse two-stream networks on a corpus of `flowprep extract`.

    \b
    trainer split corpus -o lists  write lists, if none exist
    trainer train spatial.toml --corpus corpus \\
      --train-list lists/trainlist01.txt \\
      --test-list lists/testlist01.txt -o runs/spatial
    trainer train temporal.toml ... -o runs/temporal
    trainer fuse runs/spatial runs/temporal \\
      --method weighted --calibrate
    trainer report --spatial runs/spatial \\
      --temporal runs/temporal --corpus corpus -o report.html

    Exit codes: 0 done, 1 an error, 2 wrong use, 3 some of several videos failed.
    """
