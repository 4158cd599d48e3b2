"""Splits: the training, validation and test videos of a run."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from flowprep.errors import UsageError
from trainer.data.annotations import Examples, class_order, label_examples, labelled_videos, write_list
from trainer.data.lists import join_names, read_classes, read_list
from trainer.data.matching import match_list
from trainer.files import write_atomically

if TYPE_CHECKING:
    from flowprep import Corpus

log = logging.getLogger(__name__)

CLASS_INDEX, TRAIN_LIST, TEST_LIST = "classInd.txt", "trainlist01.txt", "testlist01.txt"


def read_split(
    corpus: Corpus,
    train_list: str,
    test_list: str,
    class_index: Path | None = None,
    *,
    allow_missing: bool = False,
) -> tuple[Examples, Examples]:
    """The training and the test videos of a run, with the same classes.

    Args:
        corpus: the corpus.
        train_list, test_list: lists as for trainer.data.lists.read_list.
        class_index: classInd.txt; without it the classes are in alphabetical order.
        allow_missing: leave out missing videos and classes, with a warning.

    Raises:
        UsageError: as match_list, class_order and check_leak.
    """
    index = read_classes(class_index) if class_index else None
    train = match_list(train_list, corpus, index, allow_missing=allow_missing)
    test = match_list(test_list, corpus, index, allow_missing=allow_missing)
    classes = class_order([label for _, label in train], index, allow_missing=allow_missing)
    train_examples = label_examples(train_list, train, classes)
    test_examples = label_examples(test_list, test, classes, allow_missing=allow_missing)
    check_leak(train_examples, test_examples)
    return train_examples, test_examples


def recording_groups(ids: Sequence[str]) -> list[str]:
    """The group of each video. The clips of a group are from one recording and must stay together.

    UCF-101 has the number of the group in the file name: `v_Punch_g08_c01.avi` is in group 08. A video
    without a number is a group of its own.
    """
    matches = [(video, re.search(r"_g(\d+)_", PurePosixPath(video).name)) for video in ids]
    return [f"g{int(match[1]):04d}" if match else video for video, match in matches]


def check_leak(train: Examples, test: Examples) -> None:
    """Refuse a test list that shares videos, or groups of a class, with the training list.

    Raises:
        UsageError: with the names of the shared videos or groups.
    """
    if shared := sorted(set(train.ids) & set(test.ids)):
        raise UsageError(
            f"{len(shared)} videos are in the training and in the test list: {join_names(shared)}"
        )
    groups = recording_groups([*train.ids, *test.ids])
    train_groups = set(zip(train.labels, groups[: len(train)], strict=True))
    test_groups = set(zip(test.labels, groups[len(train) :], strict=True))
    if common := sorted(train_groups & test_groups):
        names = [f"{train.classes[label]} {group}" for label, group in common]
        raise UsageError(f"groups that are in the training and in the test list: {join_names(names)}")


def hold_out(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Separate about `share` of the videos of each class, in whole groups, and at least one group.

    All classes use the groups in the same random order: a group number that means one place of recording is
    then on the same side in every class. A class keeps at least one group. A class of a single group gives no
    video, with a warning.

    Args:
        examples: the videos.
        share: share of the videos to hold out, in [0, 1].
        seed: seed of the random order.

    Returns:
        (remaining videos, held-out videos), each in the order of the list.
    """
    names = recording_groups(examples.ids)
    order = sorted(set(names))
    np.random.default_rng([seed, 1]).shuffle(order)
    positions: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for position, (label, name) in enumerate(zip(examples.labels, names, strict=True)):
        positions[label][name].append(position)
    single = [examples.classes[label] for label, groups in sorted(positions.items()) if len(groups) < 2]
    if single and share > 0:
        log.warning("no video is held out of classes with a single group: %s", join_names(single))
    held_out: set[int] = set()
    for groups in positions.values():
        held_out.update(_choose_groups(groups, [name for name in order if name in groups][:-1], share))
    remaining = [i for i in range(len(examples)) if i not in held_out]
    return examples.subset(remaining), examples.subset(sorted(held_out))


def _choose_groups(groups: Mapping[str, list[int]], order: Sequence[str], share: float) -> list[int]:
    """Positions of about `share` of the videos: the first group, and each group that brings them closer."""
    target = share * sum(map(len, groups.values()))
    chosen: list[int] = []
    if target <= 0:
        return chosen
    for name in order:
        size = len(chosen) + len(groups[name])
        if not chosen or abs(size - target) < abs(len(chosen) - target):
            chosen += groups[name]
    return chosen


def write_split(
    corpus: Corpus, out: Path, *, test_share: float = 0.3, seed: int = 0
) -> tuple[Examples, Examples]:
    """Split a corpus that has no lists, and write classInd.txt, trainlist01.txt and testlist01.txt.

    Args:
        corpus: the corpus.
        out: folder of the lists; it is made.
        test_share: share of the videos of each class to test on.
        seed: seed of the random order of the groups.

    Returns:
        (training videos, test videos).

    Raises:
        UsageError: videos have no class, or the videos of a class cannot be separated.
    """
    pairs = labelled_videos(corpus)
    classes = class_order([label for _, label in pairs], None)
    train, test = hold_out(label_examples(str(corpus.path), pairs, classes), test_share, seed)
    if single := sorted(set(range(len(classes))) - set(test.labels)):
        raise UsageError(
            "classes with a single video or group, which cannot be separated into training and test: "
            f"{join_names([classes[number] for number in single])}"
        )
    out.mkdir(parents=True, exist_ok=True)
    index = "".join(f"{number} {name}\n" for number, name in enumerate(classes, 1))
    write_atomically(out / CLASS_INDEX, lambda file: file.write(index.encode()))
    write_list(out / TRAIN_LIST, train)
    write_list(out / TEST_LIST, test, numbers=False)
    return train, test


def unlisted_videos(corpus: Corpus, folder: Path) -> list[str]:
    """Videos of the corpus that are in neither list that write_split wrote to the folder.

    Raises:
        UsageError: as read_list.
    """
    sources = [str(folder / name) for name in (TRAIN_LIST, TEST_LIST)]
    listed = {entry.id for source in sources for entry in read_list(source, corpus.labels)}
    return [video for video in corpus.labels if video not in listed]
