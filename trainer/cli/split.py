"""The command `trainer split`."""

from __future__ import annotations

from pathlib import Path

import click

from flowprep.cli.command import warn_old_spelling
from flowprep.cli.output import print_result
from trainer.cli.command import Command
from trainer.cli.options import (
    CORPUS,
    NEW_FOLDER,
    groups_option,
    out_option,
)


@click.command(cls=Command)
@click.argument("corpus", type=CORPUS, required=False, metavar="CORPUS")
@click.option("--corpus", "old_corpus", type=CORPUS, hidden=True)
@out_option("FOLDER", "Folder of the three files.", type=NEW_FOLDER)
@click.option(
    "--test-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.3,
    show_default=True,
    help="Share of the videos to test on.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of the selection."
)
@groups_option
@click.option(
    "--keep-single",
    is_flag=True,
    help="Keep classes with a single video or group, for training only. Without it, they are refused.",
)
@click.option(
    "--check", is_flag=True, help="Write nothing. The exit code is 1 if a video is in no list of FOLDER."
)
def split(
    corpus: Path | None,
    old_corpus: Path | None,
    out: Path,
    test_share: float,
    seed: int,
    groups: str,
    keep_single: bool,
    check: bool,
) -> None:
    """Divide the videos of CORPUS into training and test videos.

    Writes classInd.txt, trainlist01.txt and testlist01.txt in the format of UCF-101. All videos of one group
    are on the same side: those of a group of UCF-101 (_g08_ in their names), those of a source of HMDB-51
    (the part of the name before the class), or those that --groups finds. A video without a group counts as a
    group.

    A list that this command did not write is never replaced: split.json has the checksums of its own.
    """
    if old_corpus:
        warn_old_spelling(f"--corpus {old_corpus}", str(old_corpus))
        corpus = old_corpus
    if corpus is None:
        raise click.UsageError("CORPUS is missing", click.get_current_context())

    from flowprep import open_corpus
    from trainer.data.splits import unlisted_videos, write_split

    opened = open_corpus(corpus)
    if check:
        if missing := unlisted_videos(opened, out):
            text = f"{len(missing)} of {len(opened)} videos of {corpus} are in no list of {out}"
            click.echo(text, err=True)
            raise SystemExit(1)
        return
    train, test = write_split(
        opened, out, test_share=test_share, seed=seed, groups=groups, keep_single=keep_single
    )
    counts = {"out": str(out), "train": len(train), "test": len(test), "classes": len(train.classes)}
    print_result(
        counts,
        f"{out}: {len(train)} videos to train on, {len(test)} to test, {len(train.classes)} classes",
    )
