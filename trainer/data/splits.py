"""Splits: training, validation and test videos."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from flowprep.errors import UsageError
from trainer.data.lists import read_classes, read_list, some_names

if TYPE_CHECKING:
    from flowprep import Corpus

from trainer.data.annotations import (
    Examples,
    check_labels,
    class_order,
    label_examples,
    match_list,
    write_list,
)

log = logging.getLogger(__name__)


def recording_groups(ids: Sequence[str]) -> list[str]:
    """The group of each video: clips of one group were cut from one recording and must not be separated.

    UCF-101 names it in the file (`v_Punch_g08_c01.avi` is of group 08). A video whose name has none is its
    own group.
    """
    found = [(i, re.search(r"_g(\d+)_", PurePosixPath(i).name)) for i in ids]
    return [f"g{int(m[1]):04d}" if m else i for i, m in found]


def check_leak(train: Examples, test: Examples) -> None:
    """Refuse a test list that shares videos, or groups of a class, with the training list.

    Raises:
        UsageError: naming what they share.
    """
    if shared := sorted(set(train.ids) & set(test.ids)):
        raise UsageError(
            f"{len(shared)} videos are in the training and in the test list: {some_names(shared)}"
        )
    both = recording_groups([*train.ids, *test.ids])
    mine = set(zip(train.labels, both[: len(train)], strict=True))
    theirs = set(zip(test.labels, both[len(train) :], strict=True))
    if common := sorted(mine & theirs):
        names = [f"{train.classes[label]} {group}" for label, group in common]
        raise UsageError(f"groups that are in the training and in the test list: {some_names(names)}")


def hold_out(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Separate about `share` of each class's videos, whole groups at a time, one at least.

    Groups are taken in one random order for all classes, so that a group number that stands for one
    recording place goes to one side in every class. A class keeps at least one group; a class of one
    group gives nothing, which is logged.

    Returns:
        (the rest, what is held out), each in the order of the list.
    """
    names = recording_groups(examples.ids)
    order = sorted(set(names))
    np.random.default_rng([seed, 1]).shuffle(order)
    members: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for position, (label, name) in enumerate(zip(examples.labels, names, strict=True)):
        members[label][name].append(position)
    held: set[int] = set()
    alone = [examples.classes[label] for label, by_group in sorted(members.items()) if len(by_group) < 2]
    if alone and share > 0:
        log.warning(
            "%d classes of a single group, of which none is held out: %s", len(alone), some_names(alone)
        )
    for by_group in members.values():
        wanted = share * sum(map(len, by_group.values()))
        mine: list[int] = []
        for name in [n for n in order if n in by_group][:-1]:
            more = len(mine) + len(by_group[name])
            if wanted > 0 and (not mine or abs(more - wanted) < abs(len(mine) - wanted)):
                mine += by_group[name]
        held.update(mine)
    everything = range(len(examples))
    return examples.subset([i for i in everything if i not in held]), examples.subset(sorted(held))


def read_split(
    corpus: Corpus,
    train_list: str,
    test_list: str,
    class_index: Path | None = None,
    *,
    allow_missing: bool = False,
) -> tuple[Examples, Examples]:
    """Training and test videos of a run, checked: see match_list, class_order, check_leak."""
    index = read_classes(class_index) if class_index else None
    train = match_list(train_list, corpus, index, allow_missing=allow_missing)
    test = match_list(test_list, corpus, index, allow_missing=allow_missing)
    classes = class_order([label for _, label in train], index, allow_missing=allow_missing)
    examples = label_examples(train_list, train, classes)
    judged = label_examples(test_list, test, classes, allow_missing=allow_missing)
    check_leak(examples, judged)
    return examples, judged


def write_split(
    corpus: Corpus, out: Path, *, test_share: float = 0.3, seed: int = 0
) -> tuple[Examples, Examples]:
    """Split a corpus that has no lists: writes classInd.txt, trainlist01.txt and testlist01.txt to `out`.

    Returns:
        (training videos, test videos).

    Raises:
        UsageError: videos without a class, or a class whose videos cannot be separated.
    """
    pairs = sorted(corpus.labels.items())
    check_labels(pairs)
    if not pairs:
        raise UsageError(f"the corpus {corpus.path} holds no video")
    classes = class_order([label for _, label in pairs], None)
    train, test = hold_out(label_examples(str(corpus.path), pairs, classes), test_share, seed)
    if alone := sorted(set(range(len(classes))) - set(test.labels)):
        raise UsageError(
            f"classes with a single video or group, which cannot be separated into training and test: "
            f"{some_names([classes[n] for n in alone])}"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "classInd.txt").write_text(
        "".join(f"{n} {c}\n" for n, c in enumerate(classes, 1)), encoding="utf-8"
    )
    write_list(out / "trainlist01.txt", train)
    write_list(out / "testlist01.txt", test, numbers=False)
    return train, test


def unlisted_videos(corpus: Corpus, folder: Path) -> list[str]:
    """Videos of the corpus that are in neither list that write_split wrote to `folder`.

    Raises:
        UsageError: as read_list.
    """
    sources = [str(folder / name) for name in ("trainlist01.txt", "testlist01.txt")]
    named = {entry.id for source in sources for entry in read_list(source, corpus.labels)}
    return [video for video in corpus.labels if video not in named]
