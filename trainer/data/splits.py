"""Splits: the training, validation and test videos of a run."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flowprep.errors import UsageError
from flowprep.planning.class_index import format_class_index
from flowprep.planning.list_entries import join_names, read_classes, read_groups, read_list
from flowprep.planning.list_matching import match_list
from trainer.data.annotations import Examples, class_order, format_list, label_examples, labelled_videos
from trainer.data.groups import Group, warn_of_unknown
from trainer.data.own_files import write_own_files

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
    groups: str = "",
) -> tuple[Examples, Examples]:
    """The training and the test videos of a run, with the same classes.

    Args:
        corpus: the corpus.
        train_list, test_list: lists as for flowprep.planning.list_entries.read_list.
        class_index: classInd.txt; without it the classes are in alphabetical order.
        allow_missing: leave out missing videos and classes, with a warning.
        groups: a pattern: see trainer.data.groups.find_groups.

    Raises:
        UsageError: as match_list, class_order and check_leak.
    """
    index = read_classes(class_index) if class_index else None
    train = match_list(train_list, corpus, index, allow_missing=allow_missing)
    test = match_list(test_list, corpus, index, allow_missing=allow_missing)
    classes = class_order([label for _, label in train], index, allow_missing=allow_missing)
    train_examples = label_examples(train_list, train, classes).with_groups(
        read_groups(train_list, corpus.labels)
    )
    test_examples = label_examples(test_list, test, classes, allow_missing=allow_missing)
    test_examples = test_examples.with_groups(read_groups(test_list, corpus.labels))
    check_leak(train_examples, test_examples, groups)
    return train_examples, test_examples


def check_leak(train: Examples, test: Examples, pattern: str = "") -> None:
    """Refuse a test list that shares videos, or groups of a class, with the training list.

    Args:
        train, test: the videos.
        pattern: see trainer.data.groups.find_groups.

    Raises:
        UsageError: with the names of the shared videos or groups.
    """
    if shared := sorted(set(train.ids) & set(test.ids)):
        raise UsageError(
            f"{len(shared)} videos are in the training and in the test list: {join_names(shared)}"
        )
    # Some films of HMDB-51 are in the official lists of both sides, with different classes.
    train_groups, test_groups = (
        {(label, group.name) for label, group in zip(part.labels, part.find_groups(pattern), strict=True)}
        for part in (train, test)
    )
    if common := sorted(train_groups & test_groups):
        names = [f"{train.classes[label]} {group}" for label, group in common]
        raise UsageError(f"groups that are in the training and in the test list: {join_names(names)}")


def hold_out(examples: Examples, share: float, seed: int, pattern: str = "") -> tuple[Examples, Examples]:
    """Separate about `share` of the videos of each class, in whole groups, and at least one group.

    All classes use the groups in the same random order: a group number that means one place of recording is
    then on the same side in every class. A group that spans classes is on one side in all of them. A class
    keeps at least one group. A class of a single group gives no video, with a warning.

    Args:
        examples: the videos.
        share: share of the videos to hold out, in [0, 1].
        seed: seed of the random order.
        pattern: see trainer.data.groups.find_groups.

    Returns:
        (remaining videos, held-out videos), each in the order of the list.
    """
    groups = examples.find_groups(pattern)
    order = sorted({group.name for group in groups})
    np.random.default_rng([seed, 1]).shuffle(order)
    positions: dict[int, dict[Group, list[int]]] = defaultdict(lambda: defaultdict(list))
    for position, (label, group) in enumerate(zip(examples.labels, groups, strict=True)):
        positions[label][group].append(position)
    held_out = _choose_groups(positions, order, share)
    if share > 0:
        warn_of_unknown(examples.ids, groups, pattern)
        _warn_of_classes(examples, positions, held_out)
    remaining = [i for i in range(len(examples)) if i not in held_out]
    return examples.subset(remaining), examples.subset(sorted(held_out))


def _choose_groups(
    classes: Mapping[int, Mapping[Group, list[int]]], order: Sequence[str], share: float
) -> set[int]:
    """Positions of about `share` of the videos of each class: its first group, and each that brings them
    closer.

    Args:
        classes: for each class, its groups with the positions of their videos.
        order: names of the groups, in the order in which they are tried.
        share: the share.
    """
    if share <= 0:
        return set()
    rank = {name: number for number, name in enumerate(order)}
    excess = {label: -share * sum(map(len, groups.values())) for label, groups in classes.items()}
    remaining = {label: set(groups) for label, groups in classes.items()}
    decided: set[Group] = set()  # groups that span classes, and whose side an earlier class chose
    # A class of few groups chooses first.
    for label, groups in sorted(classes.items(), key=lambda item: len(item[1])):
        for group in sorted(groups, key=lambda group: rank[group.name])[:-1]:
            sizes = {label: len(groups[group])}
            if not group.of_class:
                sizes = {key: len(classes[key][group]) for key in classes if group in classes[key]}
            change = sum(abs(excess[key] + size) - abs(excess[key]) for key, size in sizes.items())
            needed = change < 0 or len(remaining[label]) == len(groups)
            if group not in decided and needed and all(len(remaining[key]) > 1 for key in sizes):
                for key, size in sizes.items():
                    excess[key] += size
                    remaining[key].discard(group)
        decided.update(group for group in groups if not group.of_class)
    return {
        position
        for label, groups in classes.items()
        for group in groups.keys() - remaining[label]
        for position in groups[group]
    }


def divide_groups(examples: Examples, folds: int, pattern: str = "") -> list[tuple[Examples, Examples]]:
    """Divide the videos into folds of whole groups.

    Each class has about the same number of groups in every fold. Groups with neighbouring names are in one
    fold, as in the official splits of UCF-101: neighbouring numbers may be one place or one person.

    Args:
        examples: the videos.
        folds: the number of folds, from 2.
        pattern: see trainer.data.groups.find_groups.

    Returns:
        (videos outside the fold, videos of the fold) for each fold that has videos.

    Raises:
        UsageError: all videos of a class are in one fold.
    """
    groups = examples.find_groups(pattern)
    classes: dict[int, set[Group]] = defaultdict(set)
    for label, group in zip(examples.labels, groups, strict=True):
        classes[label].add(group)
    fold_of: dict[tuple[int, Group], int] = {}
    for label, names in sorted(classes.items(), key=lambda item: len(item[1])):
        free = sorted(group for group in names if (label, group) not in fold_of)
        for number, group in enumerate(free):
            for place in [label] if group.of_class else [key for key in classes if group in classes[key]]:
                fold_of[place, group] = number * folds // len(free)
    if single := [
        examples.classes[label]
        for label, names in sorted(classes.items())
        if len({fold_of[label, group] for group in names}) < 2
    ]:
        raise UsageError(
            f"--fit-folds {folds}: all videos of {join_names(single)} are in one fold; each class needs two "
            "groups, which --groups PATTERN can name"
        )
    numbers = [fold_of[key] for key in zip(examples.labels, groups, strict=True)]
    return [
        (
            examples.subset([i for i, other in enumerate(numbers) if other != fold]),
            examples.subset([i for i, other in enumerate(numbers) if other == fold]),
        )
        for fold in sorted(set(numbers))
    ]


def _warn_of_classes(
    examples: Examples, classes: Mapping[int, Mapping[Group, list[int]]], held_out: set[int]
) -> None:
    """Warn of classes of which no video is held out."""
    without = set(classes) - {examples.labels[position] for position in held_out}
    for reason, labels in (
        ("with a single group", [label for label in without if len(classes[label]) < 2]),
        ("whose groups span other classes", [label for label in without if len(classes[label]) > 1]),
    ):
        if labels:
            names = join_names([examples.classes[label] for label in sorted(labels)])
            log.warning("no video is held out of classes %s: %s", reason, names)


def write_split(
    corpus: Corpus,
    out: Path,
    *,
    test_share: float = 0.3,
    seed: int = 0,
    groups: str = "",
    keep_single: bool = False,
) -> tuple[Examples, Examples]:
    """Split a corpus that has no lists, and write classInd.txt, trainlist01.txt and testlist01.txt.

    A file that this function did not write, or that was changed since, is never replaced: see
    trainer.data.own_files.

    Args:
        corpus: the corpus.
        out: folder of the lists; it is made.
        test_share: share of the videos of each class to test on.
        seed: seed of the random order of the groups.
        groups: a pattern: see trainer.data.groups.find_groups.
        keep_single: put a class with a single video or group in the training list only. Without it, such a
            class is an error.

    Returns:
        (training videos, test videos).

    Raises:
        UsageError: videos have no class, the videos of a class cannot be separated, or the folder has lists
            that this function did not write.
    """
    pairs = labelled_videos(corpus)
    classes = class_order([label for _, label in pairs], None)
    train, test = hold_out(label_examples(str(corpus.path), pairs, classes), test_share, seed, groups)
    if single := sorted(set(range(len(classes))) - set(test.labels)):
        names = join_names([classes[number] for number in single])
        if not keep_single or not len(test):
            raise UsageError(
                "classes with a single video or group, which cannot be separated into training and test:"
                f" {names}; --keep-single keeps them for training, if other classes have more"
            )
        log.warning("classes with a single video or group are in the training list only: %s", names)
    texts = {
        CLASS_INDEX: format_class_index(classes),
        TRAIN_LIST: format_list(train),
        TEST_LIST: format_list(test, numbers=False),
    }
    write_own_files(out, texts)
    return train, test


def unlisted_videos(corpus: Corpus, folder: Path) -> list[str]:
    """Videos of the corpus that are in neither list that write_split wrote to the folder.

    Raises:
        UsageError: as read_list.
    """
    sources = [str(folder / name) for name in (TRAIN_LIST, TEST_LIST)]
    listed = {entry.id for source in sources for entry in read_list(source, corpus.labels)}
    return [video for video in corpus.labels if video not in listed]
